"""Requests that wait at the same time are one call of the model.

A forward pass of many samples costs little more than that of one. A call starts once a turn of the
event loop brought no more: what clients have sent by then is answered together, and a request that
comes alone waits for nothing. It runs in a thread, so that the event loop stays free and others
gather for the next; but calls that turned out to be short run in the event loop itself. To hand
them over twice would cost more than they do, the more so while training wants the interpreter.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.errors import DataError, Skip2LoraError
from skip2lora.serve.answering import Served

#: Samples of one call, at most, but that a request is never split.
MOST_TOGETHER = 256
#: Seconds that a call may keep the event loop, as long as a thread may keep Python's interpreter by
#: default; and late calls that tell how long one takes.
SHORT_S, _LATE = 5e-3, 8
#: Turns of the event loop that bring no request, before a call starts.
QUIET_TURNS = 2
_Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A request, and where its answer goes."""

    inputs: _Tensors
    n_samples: int
    kind: tuple[Any, ...]
    answer: asyncio.Future[Served]


def _kind(inputs: _Tensors) -> tuple[Any, ...]:
    """Requests of one kind can be joined: their tensors differ in the first axis alone."""
    return tuple([(name, of.shape[1:], of.dtype) for name, of in inputs.items()])


class _Pace:
    """How long calls take, by late ones: the least, as other threads make some of them longer."""

    def __init__(self) -> None:
        self._late: deque[tuple[int, float]] = deque(maxlen=_LATE)

    def took(self, n_samples: int, seconds: float) -> None:
        """A call of so many samples has ended."""
        self._late.append((n_samples, seconds))

    def is_short(self, n_samples: int) -> bool:
        """Whether a call is; where it was smaller ones that were, as if all were as slow."""
        return any(
            seconds * max(1.0, n_samples / before) <= SHORT_S for before, seconds in self._late
        )


class Batcher:
    """Gathers requests for ``predict``, which takes tensors by name and gives a :class:`Served`.

    ``clock`` gives seconds, by which calls are found to be short.
    """

    def __init__(
        self, predict: Callable[[_Tensors], Served], executor: Executor,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:  # fmt: skip
        self._predict, self._executor, self._clock = predict, executor, clock
        self._pace = _Pace()
        self._waiting: list[_Waiting] = []
        self._running = False

    async def predict(self, inputs: _Tensors) -> Served:
        """The answers to one request, whatever it is joined with.

        Raises:
            DataError: its tensors have different numbers of samples, or the model refuses them.
        """
        counts = {of.shape[0] if of.ndim else 0 for of in inputs.values()}
        if len(counts) != 1 or 0 in counts:
            text = ", ".join(f"{name} {of.shape}" for name, of in inputs.items())
            raise DataError(
                f"the shapes of the inputs are {text}, expected one number of samples first, from "
                "1: correct them"
            )
        loop = asyncio.get_running_loop()
        request = _Waiting(inputs, counts.pop(), _kind(inputs), loop.create_future())
        self._waiting.append(request)
        if not self._running:
            self._running = True
            loop.call_soon(self._gather, loop, 0)
        return await request.answer

    def _gather(self, loop: asyncio.AbstractEventLoop, n_before: int, n_quiet: int = 0) -> None:
        """Start the next call unless more requests came in the last turns of the loop.

        Those that are read in one turn are understood in the next, behind what is called here.
        """
        count = len(self._waiting)
        n_quiet = n_quiet + 1 if count == n_before else 0
        if n_quiet < QUIET_TURNS and 0 < count < MOST_TOGETHER:
            loop.call_soon(self._gather, loop, count, n_quiet)
        else:
            self._next(loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the next call where any request waits."""
        requests = self._taken()
        self._running = bool(requests)
        if not requests:
            return
        n_samples = sum(of.n_samples for of in requests)
        if self._pace.is_short(n_samples):
            self._answer(loop, requests, self._outcome(requests, n_samples))
        else:
            call = loop.run_in_executor(self._executor, self._outcome, requests, n_samples)
            call.add_done_callback(lambda done: self._answer(loop, requests, done.result()))

    def _taken(self) -> list[_Waiting]:
        """Those that are answered next: the first, and what is of its kind."""
        taken: list[_Waiting] = []
        left: list[_Waiting] = []
        n_samples = 0
        for request in self._waiting:
            if request.answer.done():  # the client left
                continue
            fits = n_samples + request.n_samples <= MOST_TOGETHER
            if not taken or (fits and request.kind == taken[0].kind):
                taken.append(request)
                n_samples += request.n_samples
            else:
                left.append(request)
        self._waiting = left
        return taken

    def _outcome(
        self, requests: Sequence[_Waiting], n_samples: int
    ) -> Sequence[Served | Exception]:
        """An answer each; an error of the program for all."""
        began = self._clock()
        try:
            return self._run(requests)
        except Exception as error:  # noqa: BLE001, handed to those who asked
            return [error] * len(requests)
        finally:
            self._pace.took(n_samples, self._clock() - began)

    def _run(self, requests: Sequence[_Waiting]) -> list[Served | Exception]:
        """An answer each; where the model refuses all together, each alone."""
        try:
            if len(requests) == 1:
                return [self._predict(requests[0].inputs)]
            names = requests[0].inputs
            joined = {name: np.concatenate([of.inputs[name] for of in requests]) for name in names}
            return _parts(self._predict(joined), [of.n_samples for of in requests])
        except Skip2LoraError as error:
            if len(requests) == 1:
                return [error]
            return [answer for request in requests for answer in self._run([request])]

    def _answer(
        self,
        loop: asyncio.AbstractEventLoop,
        requests: Sequence[_Waiting],
        answers: Sequence[Served | Exception],
    ) -> None:
        """Hand the answers out, and go on."""
        for request, answer in zip(requests, answers, strict=True):
            if request.answer.done():
                continue
            if isinstance(answer, Exception):
                request.answer.set_exception(answer)
            else:
                request.answer.set_result(answer)
        # Where none waits, those who are answered now may ask again by the next turn.
        loop.call_soon(self._gather, loop, -1)


def _parts(served: Served, counts: Sequence[int]) -> list[Served | Exception]:
    """What was answered to several requests at once, one each."""
    ends = accumulate(counts)
    return [served.part(end - count, end) for end, count in zip(ends, counts, strict=True)]
