"""A small service of a model that runs for a moment, so that all of the program has been used."""

from __future__ import annotations

import http.client
import tempfile
import threading
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import Inputs
from skip2lora.backbones.base import Backbone
from skip2lora.errors import MissingExtraError
from skip2lora.serve import inference, security, server
from skip2lora.serve.http import HEADER_LENGTH, application, need_starlette
from skip2lora.serve.limits import Limits
from skip2lora.serve.service import Service

N_SAMPLES = 12
_HOST, _WAIT_S = "127.0.0.1", 60
_CLIENTS = 4  # at a time, as requests have so many threads
_PAGES = (
    "/", "/page/page.js", "/api/status", "/api/samples", "/api/versions", "/api/events", "/metrics",
)  # fmt: skip


def rehearse(model: Backbone, some: Any) -> tuple[int, int]:
    """Serve, predict ``some`` samples, ``N_SAMPLES`` of them, ask, label and learn once.

    Gives the bytes of the process that waits to learn, and of one that has, beside this one.
    What is learned of noise is thrown away with its folder. Over HTTP it serves a request of each
    kind on this machine's own address, where what that needs is installed.
    """
    limits = Limits(first_batch=N_SAMPLES)
    with (
        warnings.catch_warnings(action="ignore"),  # of classes without a label, there too
        tempfile.TemporaryDirectory() as folder,
        Service(
            model, Path(folder) / "store", all_classes=False, learning=False, apart=True,
            lab_set=False, limits=limits,
        ) as service,
    ):  # fmt: skip
        served = service.predict(some)
        with suppress(MissingExtraError):  # which a plan does without
            _over_http(service, some)
        service.ask()
        answers = served.outputs[:2] if served.numbers is None else (0.0, 1.0)
        for place, number in enumerate(served.ids):
            service.label(number, answers[place % len(answers)])
        if len(answers) > 1:
            service.learn()
            return service.learner.weighed()
    return 0, 0


def _over_http(service: Service, some: Any) -> None:
    """Let a server answer a few requests: it runs in a thread, so that signals stay as they are."""
    need_starlette()
    started, stop = threading.Event(), server.Stop()
    with server.listening(_HOST, 0) as at:
        port = at.getsockname()[1]
        app = application(service, security.policy_for(_HOST, port, None), stop)
        thread = threading.Thread(target=server.run, args=(app, at, stop, started.set))
        thread.start()
        try:
            started.wait(_WAIT_S)
            path, tensors = f"/v2/models/{service.name}/infer", _tensors(service, some)
            with ThreadPoolExecutor(_CLIENTS) as clients:
                list(clients.map(lambda _: _ask_all(port, path, tensors), range(_CLIENTS)))
        finally:
            stop.say()
            thread.join()


def _tensors(service: Service, some: Any) -> Mapping[str, NDArray[Any]]:
    """The first of ``some`` samples, by the names of the inputs."""
    if isinstance(some, Inputs):
        return {name: array[:1] for name, array in some.arrays.items()}
    return {service.inputs[0].name: np.asarray(some)[:1]}


def _ask_all(port: int, path: str, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Ask for each page, and for some predictions."""
    connection = http.client.HTTPConnection(_HOST, port, timeout=_WAIT_S)
    try:
        for page in _PAGES:
            connection.request("GET", page)
            connection.getresponse().read()
        if all(of.dtype.kind in "fiub" for of in tensors.values()):  # texts are sent otherwise
            head, tail = inference.in_binary(tensors)
            for _ in range(N_SAMPLES // _CLIENTS):
                connection.request("POST", path, head + tail, {HEADER_LENGTH: str(len(head))})
                connection.getresponse().read()
    finally:
        connection.close()
