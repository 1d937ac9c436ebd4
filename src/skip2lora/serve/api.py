"""What the page and programs ask of the service beside predictions: ``/api/``, all in JSON.

docs/serve.md lists the routes. Each one reads its request, calls one member of
:class:`~skip2lora.serve.service.Service` in a thread, and gives what came of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from skip2lora.errors import DataError, ParameterError, brief
from skip2lora.serve import inference
from skip2lora.serve.batching import Batcher
from skip2lora.serve.media import sound_of, wav
from skip2lora.serve.pictures import png, shown
from skip2lora.serve.security import Refusal
from skip2lora.serve.uploads import read_upload

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from skip2lora.serve.service import Served, Service

#: Seconds that a request for events may wait for the next one, and samples of one answer.
MOST_WAIT_S, MOST_SAMPLES, MOST_LABELS = 25, 500, 1000
#: Characters of what says where a label came from.
MOST_TEXT = 80
#: Numbers of a sample that a page draws; more are thinned by it to what it can show.
MOST_VALUES = 1 << 16


def routes(
    service: Service, batcher: Batcher, executor: Executor, stopping: Callable[[], bool]
) -> list[BaseRoute]:
    """All of ``/api/``; nobody waits for events once the service is ``stopping``."""
    api = _Api(service, batcher, executor, stopping)
    from starlette.routing import Route

    return [
        Route("/api/status", api.status),
        Route("/api/predict", api.predict, methods=["POST"]),
        Route("/api/samples", api.samples),
        Route("/api/samples/{id:int}", api.sample),
        Route("/api/samples/{id:int}/picture", api.picture),
        Route("/api/samples/{id:int}/sound", api.sound),
        Route("/api/samples/{id:int}/skip", api.skip, methods=["POST"]),
        Route("/api/ask", api.ask),
        Route("/api/suspects", api.suspects),
        Route("/api/labels", api.labels),
        Route("/api/labels", api.label, methods=["POST"]),
        Route("/api/labels/undo", api.unlabel, methods=["POST"]),
        Route("/api/learn", api.learn, methods=["POST"]),
        Route("/api/versions", api.versions),
        Route("/api/versions/{version:int}/adopt", api.adopt, methods=["POST"]),
        Route("/api/versions/{version:int}/reject", api.reject, methods=["POST"]),
        Route("/api/drift", api.drift),
        Route("/api/drift/reference", api.reference, methods=["POST"]),
        Route("/api/events", api.events),
    ]


class _Api:
    """The routes of one service."""

    def __init__(
        self, service: Service, batcher: Batcher, executor: Executor, stopping: Callable[[], bool]
    ) -> None:
        self._service, self._batcher, self._executor = service, batcher, executor
        self._stopping = stopping

    async def _call(self, call: Callable[..., Any], *words: Any, **options: Any) -> Any:
        """What a member of the service gives, which may wait for the disk or for training."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: call(*words, **options))

    async def status(self, request: Request) -> Response:
        return _json(await self._call(self._service.status))

    async def predict(self, request: Request) -> Response:
        """Samples as a JSON object with ``rows``, or the bytes of one image or recording."""
        kind = request.headers.get("content-type", "application/json").partition(";")[0].strip()
        body = await request.body()
        if kind != "application/json":
            inputs = await self._call(read_upload, self._service, body)
        else:
            inputs = _rows(self._service, inference.parse(body))
        return _json(_answers(await self._batcher.predict(inputs)))

    async def samples(self, request: Request) -> Response:
        query = _query(request, "state", "label", "before", "limit")
        limit = _number(query, "limit", 100, 1, MOST_SAMPLES)
        before = _number(query, "before", None, 1, 2**62)
        entries = await self._call(
            self._service.samples, state=query.get("state"), label=query.get("label"),
            before=before, limit=limit,
        )  # fmt: skip
        return _json({"samples": entries})

    async def sample(self, request: Request) -> Response:
        """All that is known of one sample, with its numbers."""
        return _json(await self._call(_whole, self._service, request.path_params["id"]))

    async def picture(self, request: Request) -> Response:
        """The sample as a PNG, where it is an image."""
        from starlette.responses import Response

        entry = await self._call(self._service.sample, request.path_params["id"])
        pixels = shown(self._service.model, entry["x"])
        if pixels is None:
            raise Refusal(404, "the sample is no image: ask for its numbers")
        return Response(await self._call(png, pixels), media_type="image/png")

    async def sound(self, request: Request) -> Response:
        """The sample as a WAV, where it is sound."""
        from starlette.responses import Response

        entry = await self._call(self._service.sample, request.path_params["id"])
        body = await self._call(wav, self._service.images, entry["x"])
        if body is None:
            raise Refusal(404, "the sample is no sound that is kept: ask for its numbers")
        return Response(body, media_type="audio/wav")

    async def skip(self, request: Request) -> Response:
        """Never ask for this one again."""
        await _object(request)
        await self._call(self._service.skip, request.path_params["id"])
        return _json({})

    async def ask(self, request: Request) -> Response:
        query = _query(request, "count")
        count = _number(query, "count", None, 1, MOST_SAMPLES)
        ids = await self._call(self._service.ask, count)
        return _json({"samples": [await self._call(_brief, self._service, id) for id in ids]})

    async def suspects(self, request: Request) -> Response:
        return _json({"suspects": await self._call(self._service.suspects)})

    async def labels(self, request: Request) -> Response:
        return _json({"labels": await self._call(self._service.labels)})

    async def label(self, request: Request) -> Response:
        """Labels of many samples; each is taken, or refused with its reason."""
        asked = await _object(request, "labels", "new", "settle", "source")
        entries, source = asked.get("labels"), asked.get("source", "http")
        flags = {name: asked.get(name, False) for name in ("new", "settle")}
        if not isinstance(entries, list) or not 0 < len(entries) <= MOST_LABELS:
            raise DataError(
                f"labels are {brief(entries)}, expected a list of 1 to {MOST_LABELS} objects "
                "with id and label: correct it"
            )
        wrong = [name for name, value in flags.items() if not isinstance(value, bool)]
        if wrong or not isinstance(source, str) or len(source) > MOST_TEXT:
            name = wrong[0] if wrong else "source"
            raise DataError(
                f"{name} is {brief(asked[name])!r}, expected true or false, or a short text for "
                "source: correct it"
            )
        return _json(await self._call(_label_all, self._service, entries, source, flags))

    async def unlabel(self, request: Request) -> Response:
        asked = await _object(request, "ids")
        ids = asked.get("ids")
        if not isinstance(ids, list) or not all(type(each) is int for each in ids):
            raise DataError(f"ids are {brief(ids)}, expected a list of numbers: correct them")
        if len(ids) > MOST_LABELS:
            raise DataError(f"ids are {len(ids)}, expected {MOST_LABELS} or fewer: remove some")
        done, refused = await self._call(_each, self._service.unlabel, ids)
        return _json({"undone": done, "refused": refused})

    async def learn(self, request: Request) -> Response:
        await _object(request)
        return _json(asdict(await self._call(self._service.learn)))

    async def versions(self, request: Request) -> Response:
        return _json({"versions": await self._call(self._service.versions)})

    async def adopt(self, request: Request) -> Response:
        await _object(request)
        await self._call(self._service.adopt, request.path_params["version"])
        return await self.versions(request)

    async def reject(self, request: Request) -> Response:
        await _object(request)
        await self._call(self._service.reject, request.path_params["version"])
        return await self.versions(request)

    async def drift(self, request: Request) -> Response:
        status = await self._call(self._service.status)
        return _json(status["drift"])

    async def reference(self, request: Request) -> Response:
        await _object(request)
        await self._call(self._service.new_reference)
        return await self.drift(request)

    async def events(self, request: Request) -> Response:
        """Events after a number; where there are none yet, waits for one up to ``wait`` seconds."""
        query = _query(request, "after", "wait")
        after = _number(query, "after", 0, 0, 2**62)
        wait = _number(query, "wait", 0, 0, MOST_WAIT_S)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + float(wait or 0)
        while True:
            entries = await self._call(self._service.events, after)
            left = deadline - loop.time()
            if entries or left <= 0 or self._stopping():
                return _json({"events": entries})
            await asyncio.sleep(min(0.25, left))


def _json(value: Any) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse(value)


def _rows(service: Service, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """Samples of a request, as tensors by the names of the inputs."""
    unknown = sorted(set(asked) - {"rows"})
    rows = asked.get("rows")
    if unknown or not isinstance(rows, list) or not rows:
        text = unknown[0] if unknown else f"rows {brief(rows)}"
        raise DataError(f"got {text}, expected rows, a list with a list a sample: correct it")
    if len(service.inputs) != 1:
        raise DataError(
            f"the model has {len(service.inputs)} inputs, expected one: use /v2/models/.../infer"
        )
    return {service.inputs[0].name: inference.numbers(rows)}


def _brief(service: Service, id: int) -> dict[str, Any]:
    """A sample as JSON, without its numbers."""
    entry = service.sample(id)
    x = entry.pop("x")
    return entry | {
        "picture": shown(service.model, x) is not None,
        "sound": sound_of(service.images, x) is not None,
    }


def _whole(service: Service, id: int) -> dict[str, Any]:
    """A sample as JSON with its numbers: of several inputs the first, of very many every n-th."""
    entry = service.sample(id)
    x = entry["x"]
    first = x[service.inputs[0].name] if isinstance(x, Mapping) else x
    about: dict[str, Any] = {"shape": None, "values": None}
    if first is not None:
        flat = np.asarray(first).ravel()
        step = -(-flat.size // MOST_VALUES) or 1
        about = {"shape": list(np.shape(first)), "values": flat[::step].tolist()}
    return _brief(service, id) | about


def _answers(served: Served) -> dict[str, Any]:
    """What was answered, an entry a sample."""
    if served.numbers is not None:
        pairs = zip(served.ids, served.numbers.tolist(), strict=True)
        return {
            "version": served.version,
            "samples": [{"id": id, "answer": number} for id, number in pairs],
        }
    shares = served.probabilities.tolist()
    return {
        "version": served.version,
        "samples": [
            {"id": id, "answer": name, "probabilities": share}
            for id, name, share in zip(served.ids, served.names, shares, strict=True)
        ],
    }


def _query(request: Request, *known: str) -> dict[str, str]:
    """The words behind the question mark."""
    query = dict(request.query_params)
    unknown = [name for name in query if name not in known]
    if unknown:
        expected = ", ".join(known)
        raise DataError(f"{brief(unknown[0])!r} was asked for, expected {expected}: correct it")
    return query


def _number(
    query: Mapping[str, str], name: str, default: int | None, least: int, most: int
) -> int | None:
    """A whole number of the query."""
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and least <= int(text) <= most):
        raise DataError(f"{name} is {brief(text)!r}, expected {least} to {most}: correct it")
    return int(text)


async def _object(request: Request, *known: str) -> dict[str, Any]:
    """The JSON object of a request, which may be empty where nothing must be said."""
    body = await request.body()
    asked = inference.parse(body) if body or known else {}
    unknown = [name for name in asked if name not in known]
    if unknown:
        expected = ", ".join(known) or "an empty object"
        raise DataError(f"{brief(unknown[0])!r} was said, expected {expected}: correct it")
    return asked


def _label_all(
    service: Service, entries: Sequence[Any], source: str, flags: Mapping[str, bool]
) -> dict[str, list[Any]]:
    """Label samples one by one."""

    def label(entry: Any) -> None:
        if not isinstance(entry, dict) or set(entry) != {"id", "label"}:
            raise DataError(f"a label is {brief(entry)}, expected id and label: correct it")
        if type(entry["id"]) is not int:
            raise DataError(f"id is {brief(entry['id'])}, expected a number: correct it")
        service.label(entry["id"], entry["label"], source=source, **flags)

    done, refused = _each(label, entries)
    return {"labelled": [entry["id"] for entry in done], "refused": refused}


def _each(call: Callable[[Any], object], entries: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Call for each entry: those that were done, and those refused, with the reason."""
    done, refused = [], []
    for entry in entries:
        try:
            call(entry)
            done.append(entry)
        except (DataError, ParameterError) as error:
            refused.append({"entry": entry, "error": str(error)})
    return done, refused
