"""What Label Studio asks of a machine-learning backend: four calls, without its package.

A task is about a sample of the store, whose number stands in its data as ``skip2lora``;
``/api/label-studio/tasks`` gives such tasks of what is worth a label, to import. Its events are
taken as they come: those of other kinds, or of tasks from elsewhere, are answered and left alone.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from skip2lora.data.sound_options import Sound
from skip2lora.errors import DataError, ParameterError, brief
from skip2lora.serve.inference import parse

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from skip2lora.serve.service import Service

#: Where a task says which sample it is about.
KEY = "skip2lora"
_SOURCE = "label studio"
_MOST_TASKS = 1000
_LABELLED = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED")
_CONTROL = {
    "choices": re.compile(r"<Choices\b([^<>]*)>"),
    "number": re.compile(r"<Number\b([^<>]*)>"),
}
_ATTRIBUTE = re.compile(r"""\b(name|toName)\s*=\s*["']([^"'<>]{1,200})["']""")


def routes(service: Service, executor: Executor) -> list[BaseRoute]:
    """The four calls, and tasks to import."""
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def call(work: Callable[..., Any], *words: Any) -> Response:
        loop = asyncio.get_running_loop()
        return JSONResponse(await loop.run_in_executor(executor, work, service, *words))

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "UP", "model_class": "skip2lora"})

    async def setup(request: Request) -> Response:
        await request.body()
        return JSONResponse({"model_version": version_of(service)})

    async def predict(request: Request) -> Response:
        return await call(predictions, parse(await request.body()))

    async def webhook(request: Request) -> Response:
        return await call(take, parse(await request.body()))

    async def tasks(request: Request) -> Response:
        return await call(tasks_of, str(request.base_url))

    return [
        Route("/health", health), Route("/setup", setup, methods=["POST"]),
        Route("/predict", predict, methods=["POST"]),
        Route("/webhook", webhook, methods=["POST"]), Route("/api/label-studio/tasks", tasks),
    ]  # fmt: skip


def version_of(service: Service) -> str:
    """The version in use, as Label Studio keeps it beside predictions."""
    return f"{service.name} {service.status()['version']}"


def _kind(service: Service) -> str:
    """The type of results of the control that labels are given with: Choices, or Number."""
    return "choices" if service.class_names else "number"


def predictions(service: Service, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What the service answered to the samples of tasks; nothing for a task from elsewhere.

    Raises:
        DataError: there are no tasks, or too many.
    """
    tasks = asked.get("tasks")
    if not isinstance(tasks, list) or len(tasks) > _MOST_TASKS:
        raise DataError(
            f"tasks are {brief(tasks)}, expected a list of {_MOST_TASKS} or fewer: correct them"
        )
    names = _names_of(asked.get("label_config"), _kind(service))
    version = version_of(service)
    return {"results": [_prediction(service, task, names, version) for task in tasks]}


def _names_of(config: object, kind: str) -> tuple[str, str]:
    """Names of the control and of what it is about, in the project's configuration."""
    control = _CONTROL[kind].search(config[:100_000]) if isinstance(config, str) else None
    names = dict(_ATTRIBUTE.findall(control[1])) if control else {}
    return names.get("name", "label"), names.get("toName", "sample")


def _prediction(
    service: Service, task: object, names: tuple[str, str], version: str
) -> dict[str, Any]:
    empty: dict[str, Any] = {"model_version": version, "score": 0.0, "result": []}
    id = sample_of(task)
    if id is None:
        return empty
    try:
        sample = service.sample(id)
    except DataError:  # dropped since
        return empty
    kind = _kind(service)
    value = [sample["answer"]] if kind == "choices" else sample["answer"]
    answer = {"from_name": names[0], "to_name": names[1], "type": kind, "value": {kind: value}}
    return empty | {"score": sample["probability"], "result": [answer]}


def sample_of(task: object) -> int | None:
    """The number of the sample that a task is about."""
    data = task.get("data") if isinstance(task, dict) else None
    id = data.get(KEY) if isinstance(data, dict) else None
    return id if type(id) is int else None


def take(service: Service, event: Mapping[str, Any]) -> dict[str, Any]:
    """Take the label of an event, where it has one of a sample that is here."""
    action = event.get("action")
    if action not in _LABELLED:
        return {"labelled": 0, "reason": f"{brief(action)} holds no label"}
    kind = _kind(service)
    id, answer = sample_of(event.get("task")), _answer(event.get("annotation"), kind)
    if id is None or answer is None:
        return {"labelled": 0, "reason": f"no data.{KEY} in the task, or not one of {kind}"}
    try:
        service.label(id, answer, settle=action == "ANNOTATION_UPDATED", source=_SOURCE)
    except (DataError, ParameterError) as error:
        return {"labelled": 0, "reason": str(error)}
    return {"labelled": 1}


def _answer(annotation: object, kind: str) -> str | float | None:
    """The one choice, or the one number, of an annotation."""
    result = annotation.get("result") if isinstance(annotation, dict) else None
    answers = []
    for each in result if isinstance(result, list) else ():
        value = each.get("value") if isinstance(each, dict) else None
        given = value.get(kind) if isinstance(value, dict) else None
        answers += given if isinstance(given, list) else [] if given is None else [given]
    fits = [each for each in answers if isinstance(each, str if kind == "choices" else int | float)]
    return fits[0] if len(answers) == len(fits) == 1 else None


def tasks_of(service: Service, base: str) -> list[dict[str, Any]]:
    """Tasks of the samples that are worth a label; ``base`` is the address of the service."""
    tasks = []
    for id in service.ask():
        sample = service.sample(id)
        about = {KEY: id, "time": sample["time"], "answer": sample["answer"]}
        at = f"{base}api/samples/{id}"
        if isinstance(service.images, Sound):
            about["sound"] = f"{at}/sound"
        tasks.append({"data": about | {"picture": f"{at}/picture"}})
    return tasks
