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
_CHOICES = re.compile(r"<Choices\b([^<>]*)>")
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


def _check_classes(service: Service) -> None:
    """Raise ParameterError for a service of numbers."""
    if not service.class_names:
        raise ParameterError(
            f"the service is for {service.task}, expected one of classes, which Label Studio's "
            "choices are: use the page, or HTTP"
        )


def predictions(service: Service, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What the service answered to the samples of tasks; nothing for a task from elsewhere.

    Raises:
        DataError: there are no tasks, or too many.
        ParameterError: the service is of numbers.
    """
    _check_classes(service)
    tasks = asked.get("tasks")
    if not isinstance(tasks, list) or len(tasks) > _MOST_TASKS:
        raise DataError(
            f"tasks are {brief(tasks)}, expected a list of {_MOST_TASKS} or fewer: correct them"
        )
    names = _names_of(asked.get("label_config"))
    version = version_of(service)
    return {"results": [_prediction(service, task, names, version) for task in tasks]}


def _names_of(config: object) -> tuple[str, str]:
    """Names of the control and of what it is about, in the project's configuration."""
    choices = _CHOICES.search(config[:100_000]) if isinstance(config, str) else None
    names = dict(_ATTRIBUTE.findall(choices[1])) if choices else {}
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
    choice = {
        "from_name": names[0], "to_name": names[1], "type": "choices",
        "value": {"choices": [sample["answer"]]},
    }  # fmt: skip
    return empty | {"score": sample["probability"], "result": [choice]}


def sample_of(task: object) -> int | None:
    """The number of the sample that a task is about."""
    data = task.get("data") if isinstance(task, dict) else None
    id = data.get(KEY) if isinstance(data, dict) else None
    return id if type(id) is int else None


def take(service: Service, event: Mapping[str, Any]) -> dict[str, Any]:
    """Take the label of an event, where it has one of a sample that is here."""
    _check_classes(service)
    action = event.get("action")
    if action not in _LABELLED:
        return {"labelled": 0, "reason": f"{brief(action)} holds no label"}
    id, name = sample_of(event.get("task")), _choice(event.get("annotation"))
    if id is None or name is None:
        return {"labelled": 0, "reason": f"no data.{KEY} in the task, or not one choice"}
    try:
        service.label(id, name, settle=action == "ANNOTATION_UPDATED", source=_SOURCE)
    except (DataError, ParameterError) as error:
        return {"labelled": 0, "reason": str(error)}
    return {"labelled": 1}


def _choice(annotation: object) -> str | None:
    """The one choice of an annotation."""
    result = annotation.get("result") if isinstance(annotation, dict) else None
    names = []
    for each in result if isinstance(result, list) else ():
        value = each.get("value") if isinstance(each, dict) else None
        choices = value.get("choices") if isinstance(value, dict) else None
        names += choices if isinstance(choices, list) else []
    return names[0] if len(names) == 1 and isinstance(names[0], str) else None


def tasks_of(service: Service, base: str) -> list[dict[str, Any]]:
    """Tasks of the samples that are worth a label; ``base`` is the address of the service."""
    _check_classes(service)
    tasks = []
    for id in service.ask():
        sample = service.sample(id)
        about = {KEY: id, "time": sample["time"], "answer": sample["answer"]}
        at = f"{base}api/samples/{id}"
        if isinstance(service.images, Sound):
            about["sound"] = f"{at}/sound"
        tasks.append({"data": about | {"picture": f"{at}/picture"}})
    return tasks
