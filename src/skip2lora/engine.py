"""Where tasks run: in this process, or on a Dask cluster that is there already."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from skip2lora.errors import (
    ClusterError,
    MissingExtraError,
    ParameterError,
    Skip2LoraError,
    first_line,
)

_SECONDS = 10  # for a scheduler to answer
_FIRST_WORKER = 30  # seconds, as one may be starting
_Opened = TypeVar("_Opened")
_Task = TypeVar("_Task")
_Result = TypeVar("_Result")
#: What threads of a worker call for a run, with what they opened, so that each task of it finds it.
_OPENED: dict[tuple[str, int], Callable[[Any], Any]] = {}


class Engine(Protocol):
    """What runs tasks. ``n_at_once`` is how many, ``shares_files`` that others open the files."""

    n_at_once: int

    def results(
        self,
        opening: Callable[[], _Opened],
        call: Callable[[_Opened, _Task], _Result],
        tasks: Sequence[_Task],
    ) -> Iterator[tuple[int, _Result]]:
        """Yield the number of each task, as it is done, with what ``call`` gave.

        ``opening`` gives what all tasks need, and is called once wherever some run.

        Raises:
            ClusterError: the cluster lost a task, or all of its workers.
            Skip2LoraError: as of ``opening`` and ``call``.
        """


class Here:
    """Runs tasks in this process, one after the other."""

    n_at_once = 1

    def results(
        self,
        opening: Callable[[], _Opened],
        call: Callable[[_Opened, _Task], _Result],
        tasks: Sequence[_Task],
    ) -> Iterator[tuple[int, _Result]]:
        """As of :class:`Engine`."""
        opened = opening()
        for number, task in enumerate(tasks):
            yield number, call(opened, task)


class Dask:
    """Runs tasks on the workers of a cluster, which share the files and have this package."""

    def __init__(self, client: Any, name: str) -> None:
        self._client, self._name = client, name
        self.n_at_once: int = sum(client.nthreads().values())

    def results(
        self,
        opening: Callable[[], _Opened],
        call: Callable[[_Opened, _Task], _Result],
        tasks: Sequence[_Task],
    ) -> Iterator[tuple[int, _Result]]:
        """As of :class:`Engine`."""
        from distributed import as_completed
        from distributed.protocol.serialize import serialize_bytes

        run = uuid.uuid4().hex  # Dask takes equal keys for the same result
        # As bytes, or the scheduler would import all that they need, a second of its time.
        packed = serialize_bytes((opening, call))
        task_on_worker = partial(_on_worker, run, packed)
        futures = {
            self._client.submit(task_on_worker, task, key=f"skip2lora-{run}-{number}"): number
            for number, task in enumerate(tasks)
        }
        try:
            for future in as_completed(futures, loop=self._client.loop):
                yield futures[future], self._result(future)
        finally:
            self._client.cancel(list(futures))
            with suppress(Exception):  # a worker that is gone keeps nothing
                self._client.run(_forget, run, on_error="ignore")

    def _result(self, future: Any) -> Any:
        try:
            return future.result()
        except Skip2LoraError:
            raise
        except Exception as error:  # whatever a worker, the scheduler or the network came to
            raise ClusterError(
                f"a task on {self._name} failed ({type(error).__name__}: {first_line(error)}), "
                "expected workers that have this version of skip2lora with all that the model "
                "needs, see the same files, and live: read their logs, and run it again, which "
                "goes on from what is done"
            ) from error


@contextmanager
def engine_at(address: str | None) -> Iterator[Engine]:
    """Yield what runs tasks at ``address``, dask://HOST:PORT, or in this process.

    Raises:
        ClusterError: no scheduler answers there, or it has no worker.
        MissingExtraError: dask and distributed are not installed.
        ParameterError: no such address can be.
    """
    if address is None:
        yield Here()
        return
    where = _checked(address)
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingExtraError(
            "distributed is not installed, expected it for engine='dask://...': pip install "
            "'skip2lora[cluster]'"
        ) from error
    try:
        client = Client(where, timeout=_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:  # TimeoutError is one
        raise ClusterError(
            f"no Dask scheduler answers at {address} within {_SECONDS} s, expected one: start it, "
            "or correct engine="
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_FIRST_WORKER)
        except TimeoutError as error:
            raise ClusterError(
                f"the Dask scheduler at {address} has no worker, expected one at least: start some"
            ) from error
        yield Dask(client, address)


def _checked(address: str) -> str:
    """The address as Dask has it."""
    try:
        parts = urlsplit(address)
        if parts.scheme == "dask" and parts.hostname and parts.port and parts.path in ("", "/"):
            return f"tcp://{parts.netloc}"
    except ValueError:
        pass
    raise ParameterError(
        f"engine is {address!r}, expected the address of a Dask scheduler such as "
        "dask://127.0.0.1:8786: correct engine="
    )


def _on_worker(run: str, packed: bytes, task: Any) -> Any:
    """Call it with what this thread opened, as a model is used by one thread at a time.

    ``packed`` are ``opening`` and ``call`` of :class:`Engine`.
    """
    key = run, threading.get_ident()
    if key not in _OPENED:
        from distributed.protocol.serialize import deserialize_bytes

        opening, call = deserialize_bytes(packed)
        _OPENED[key] = partial(call, opening())
    return _OPENED[key](task)


def _forget(run: str) -> None:
    """Let go what was opened for a run."""
    for key in [key for key in _OPENED if key[0] == run]:
        del _OPENED[key]
