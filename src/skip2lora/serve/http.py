"""The service over HTTP: predictions by the Open Inference Protocol, health, metrics, the page.

:func:`application` gives an ASGI application, which :func:`run` serves with uvicorn. ``/api/`` is
in :mod:`skip2lora.serve.api`. The event loop does no long work of its own: the store and training
run in threads, and so does a model unless its calls are short.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import skip2lora
from skip2lora.errors import DataError, FileError, MissingExtraError, Skip2LoraError, brief
from skip2lora.serve import inference
from skip2lora.serve.batching import Batcher
from skip2lora.serve.security import App, Guard, Policy, Receive, Refusal, Scope, Send, refuse

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from skip2lora.serve.service import Served, Service

#: Names of the tensors of an answer.
PROBABILITIES, ANSWER, VALUE, ID = "probabilities", "answer", "value", "id"
HEADER_LENGTH = "inference-header-content-length"
_HEADER_LENGTH = HEADER_LENGTH.encode()
_JSON = (b"content-type", b"application/json")
_BINARY = (b"content-type", b"application/octet-stream")
#: The protocol's word for numbers of NumPy.
_CALLED = {np.dtype(code): name for name, code in inference.DATATYPES.items()}
_PAGE = {
    "page.css": "text/css",
    **dict.fromkeys(
        ("looks.js", "page.js", "parts.js", "sounds.js", "talk.js", "words.js"), "text/javascript"
    ),
}  # fmt: skip


def need_starlette() -> None:
    """Raise MissingExtraError where what HTTP needs is not installed."""
    try:
        for name in ("starlette.applications", "uvicorn", "httptools", "prometheus_client"):
            import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            f"the service over HTTP needs {error.name}, which is not installed: install "
            "skip2lora[serve]"
        ) from error


class Infer:
    """``POST /v2/models/NAME/infer``, without a framework: each prediction passes here."""

    def __init__(self, service: Service, batcher: Batcher) -> None:
        self._service, self._batcher = service, batcher
        self._names = tuple(of.name for of in service.inputs)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            body = await _body(receive)
            asked = inference.read(body, _header_length(scope))
            served = await self._batcher.predict(inputs_of(self._names, asked))
            outputs = tensors(served)
            text, json_bytes = inference.answer(
                asked, outputs, model_name=self._service.name, model_version=str(served.version)
            )
        except Skip2LoraError as error:
            await refuse(send, Refusal(status_of(error), str(error)))
            return
        headers = [(b"content-length", str(len(text)).encode())]
        if json_bytes is None:
            headers.append(_JSON)
        else:
            headers += [_BINARY, (_HEADER_LENGTH, str(json_bytes).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})


def status_of(error: Skip2LoraError) -> int:
    """The status of HTTP for what a call refused: the request's fault, or the service's state."""
    return 503 if isinstance(error, FileError) else 400


def inputs_of(names: Sequence[str], asked: inference.Asked) -> dict[str, NDArray[Any]]:
    """The tensors of a request by the ``names`` of the model's inputs.

    Raises:
        DataError: one is missing or has another name; a model of one input takes any name.
    """
    inputs = asked.inputs
    if len(names) == 1 and len(inputs) == 1:
        return {names[0]: next(iter(inputs.values()))}
    if set(inputs) != set(names):
        raise DataError(
            f"the inputs are {', '.join(inputs)}, expected {', '.join(names)}: correct their names"
        )
    return {name: inputs[name] for name in names}


def tensors(served: Served) -> dict[str, inference.Tensor]:
    """The outputs of the protocol for answers."""
    if served.numbers is not None:
        return {VALUE: served.numbers, ID: np.array(served.ids, np.int64)}
    return {
        PROBABILITIES: served.probabilities, ANSWER: served.names,
        ID: np.array(served.ids, np.int64),
    }  # fmt: skip


def _predict(service: Service, inputs: Mapping[str, NDArray[Any]]) -> Served:
    """Answers to tensors by the names of the inputs."""
    only = next(iter(inputs.values())) if len(inputs) == 1 else inputs
    return service.predict(only, source="http")


def metadata(service: Service) -> dict[str, Any]:
    """What ``GET /v2/models/NAME`` gives."""
    outputs = {PROBABILITIES: ("FP32", [-1, len(service.class_names)]), ANSWER: ("BYTES", [-1])}
    if not service.class_names:
        outputs = {VALUE: ("FP32", [-1])}
    return {
        "name": service.name,
        "versions": [str(of["number"]) for of in service.versions()],
        "platform": "skip2lora",
        "inputs": [
            {
                "name": of.name,
                "datatype": _CALLED.get(np.dtype(of.dtype), "FP32"),
                "shape": [-1, *(-1 if n is None else n for n in of.shape)],
            }
            for of in service.inputs
        ],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": shape}
            for name, (datatype, shape) in (outputs | {ID: ("INT64", [-1])}).items()
        ],
    }


def application(
    service: Service, policy: Policy, stopping: Callable[[], bool] = lambda: False
) -> App:
    """The whole service as an ASGI application; nobody waits for events once it is ``stopping``.

    Raises:
        MissingExtraError: the extra ``serve`` is not installed.
    """
    need_starlette()
    from starlette.applications import Starlette

    from skip2lora.serve import api, label_studio

    executor = ThreadPoolExecutor(max_workers=4, thread_name_prefix="skip2lora")
    batcher = Batcher(lambda inputs: _predict(service, inputs), executor)
    handlers = {Refusal: _refused, Skip2LoraError: _failed, 404: _missing, 405: _missing}
    starlette = Starlette(
        routes=[
            *_protocol(service),
            *api.routes(service, batcher, executor, stopping),
            *label_studio.routes(service, executor),
            *_page(),
        ],
        exception_handlers=handlers,
    )
    infer = Infer(service, batcher)
    paths = {f"/v2/models/{service.name}/infer"}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in paths:
            await infer(scope, receive, send)
        else:
            await starlette(scope, receive, send)

    return Guard(app, policy)


def _protocol(service: Service) -> list[BaseRoute]:
    """Health and metadata of the Open Inference Protocol, and metrics."""
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    from skip2lora.serve.metrics import CONTENT_TYPE, metrics

    async def live(request: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(request: Request) -> Response:
        _check_name(service, request)
        return JSONResponse({"ready": True})

    async def server(request: Request) -> Response:
        return JSONResponse({
            "name": "skip2lora", "version": skip2lora.__version__,
            "extensions": list(inference.EXTENSIONS),
        })  # fmt: skip

    async def model(request: Request) -> Response:
        _check_name(service, request)
        return JSONResponse(metadata(service))

    async def measured(request: Request) -> Response:
        return Response(metrics(service), media_type=CONTENT_TYPE)

    return [
        Route("/healthz", live), Route("/v2/health/live", live), Route("/v2/health/ready", ready),
        Route("/v2", server), Route("/v2/models/{name}", model),
        Route("/v2/models/{name}/ready", ready), Route("/metrics", measured),
    ]  # fmt: skip


def _check_name(service: Service, request: Request) -> None:
    name = request.path_params.get("name", service.name)
    if name != service.name:
        raise Refusal(
            404, f"model {brief(name)!r} is not here, expected {service.name}: correct it"
        )


def _page() -> list[BaseRoute]:
    """The page and its two files; no other file can be named by a request."""
    from starlette.responses import Response
    from starlette.routing import Route

    folder = files("skip2lora.serve") / "page"

    def route(path: str, name: str, kind: str) -> Route:
        content = (folder / name).read_bytes()

        async def get(request: Request) -> Response:
            return Response(content, media_type=kind)

        return Route(path, get)

    async def icon(request: Request) -> Response:  # browsers ask for one
        return Response(status_code=204)

    return [
        Route("/favicon.ico", icon),
        route("/", "index.html", "text/html"),
        *(route(f"/page/{name}", name, kind) for name, kind in _PAGE.items()),
    ]


async def _body(receive: Receive) -> bytes:
    """The whole body; the guard bounds it."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise DataError("the request ended in its middle, expected a whole body: try again")
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts) if len(parts) > 1 else parts[0]


def _header_length(scope: Scope) -> int | None:
    """How much of the body is JSON, by its header."""
    for name, value in scope["headers"]:
        if name == _HEADER_LENGTH:
            if not value.isdigit() or len(value) > 12:
                got = brief(value.decode("latin-1"))
                raise DataError(
                    f"{name.decode()} is {got!r}, expected a number of bytes: correct it"
                )
            return int(value)
    return None


async def _refused(request: Request, refusal: Refusal) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse({"error": str(refusal)}, refusal.status)


async def _failed(request: Request, error: Skip2LoraError) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse({"error": str(error)}, status_of(error))


async def _missing(request: Request, error: Any) -> Response:
    from starlette.responses import JSONResponse

    method, path = request.method, brief(request.url.path)
    what = "not here" if error.status_code == 404 else "not to be asked so"
    return JSONResponse(
        {"error": f"{method} {path} is {what}: see /v2 and /api"}, error.status_code
    )
