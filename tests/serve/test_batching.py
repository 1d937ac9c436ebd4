import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from skip2lora.errors import DataError
from skip2lora.serve.answering import Served
from skip2lora.serve.batching import MOST_TOGETHER, SHORT_S, Batcher


class Doubles:
    """Answers each sample with twice its first number; the first call waits until it is let go."""

    def __init__(self):
        self.calls, self.let_go = [], threading.Event()

    def __call__(self, inputs):
        x = inputs["X"]
        if not self.calls:
            self.calls.append(len(x))
            assert self.let_go.wait(30)
        else:
            self.calls.append(len(x))
        if np.isnan(x).any():
            raise DataError("NaN")
        if (x < 0).any():
            raise ZeroDivisionError
        shares = 2 * x[:, :1].astype(np.float32)
        return Served(tuple(range(len(x))), tuple(map(str, shares[:, 0])), shares, 3, ("a",))


def answers(*arrays, cancel=()):
    """What comes of requests that are made while the first one runs."""

    async def ask():
        model = Doubles()
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(model, executor)
            asked = []
            for x in arrays:
                asked.append(asyncio.ensure_future(batcher.predict({"X": np.asarray(x)})))
                await asyncio.sleep(0)
                while not (model.calls or asked[0].done()):
                    await asyncio.sleep(0.001)
            for at in cancel:
                asked[at].cancel()
            await asyncio.sleep(0)
            model.let_go.set()
            done = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 30)
        return model.calls, done

    return asyncio.run(ask())


def rows(first, count=1, width=2):
    return np.arange(first, first + count * width, dtype=np.float32).reshape(count, width)


def test_requests_that_wait_are_one_call_and_each_has_its_own_answer():
    calls, done = answers(rows(0), rows(10, 2), rows(20), rows(30, 3))
    assert calls == [1, 6]
    assert [each.probabilities.ravel().tolist() for each in done] == [
        [0], [20, 24], [40], [60, 64, 68],
    ]  # fmt: skip
    assert [len(each.ids) for each in done] == [len(each.names) for each in done] == [1, 2, 1, 3]
    assert {each.version for each in done} == {3}


def test_other_shapes_and_types_are_not_joined():
    calls, done = answers(rows(0), rows(1), rows(5, width=3), rows(9), np.int64([[7, 7]]))
    assert calls == [1, 2, 1, 1]
    assert [each.probabilities.item() for each in done] == [0, 2, 10, 18, 14]


def test_what_is_wrong_with_one_request_is_told_to_it_alone():
    bad = rows(1) * np.nan
    calls, done = answers(rows(0), rows(1), bad, rows(3))
    assert calls == [1, 3, 1, 1, 1]
    assert done[1].probabilities.item() == 2
    assert isinstance(done[2], DataError)
    assert done[3].probabilities.item() == 6


def test_an_error_of_the_program_reaches_whoever_asked_and_the_next_is_answered():
    calls, done = answers(rows(0), -rows(1), rows(5, width=3))
    assert isinstance(done[1], ZeroDivisionError)
    assert done[2].probabilities.item() == 10
    assert calls == [1, 1, 1]


def test_no_call_is_larger_than_its_limit_but_for_one_request():
    half = MOST_TOGETHER // 2
    calls, done = answers(
        rows(0), rows(0, half), rows(0, half), rows(0), rows(0, MOST_TOGETHER + 1)
    )
    assert calls == [1, MOST_TOGETHER, 1, MOST_TOGETHER + 1]
    assert [len(each) for each in done] == [1, half, half, 1, MOST_TOGETHER + 1]


def test_clients_that_left_cost_nothing():
    calls, done = answers(rows(0), rows(1), rows(2), cancel=[0, 1])
    assert calls == [1, 1]
    assert [isinstance(each, asyncio.CancelledError) for each in done] == [True, True, False]
    assert done[2].probabilities.item() == 4


@pytest.mark.parametrize("inputs", [
    {}, {"X": np.zeros((0, 2))}, {"X": np.float32(3)},
    {"X": np.zeros((2, 2)), "Z": np.zeros((3, 2))},
])  # fmt: skip
def test_inputs_without_one_number_of_samples_are_refused(inputs):
    with ThreadPoolExecutor(1) as executor, pytest.raises(DataError, match="one number of samples"):
        asyncio.run(Batcher(Doubles(), executor).predict(inputs))


def test_who_asks_again_at_once_is_answered_with_those_who_wait():
    async def ask():
        model = Doubles()

        async def twice():
            return [await batcher.predict({"X": rows(first)}) for first in (0, 10)]

        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(model, executor)
            again = asyncio.ensure_future(twice())
            while not model.calls:
                await asyncio.sleep(0.001)
            waits = asyncio.ensure_future(batcher.predict({"X": rows(20)}))
            await asyncio.sleep(0)
            model.let_go.set()
            done = await asyncio.wait_for(asyncio.gather(again, waits), 30)
        return model.calls, done

    calls, ((first, second), other) = asyncio.run(ask())
    assert calls == [1, 2]
    assert [first.names, second.names, other.names] == [("0.0",), ("20.0",), ("40.0",)]


def test_requests_that_are_read_while_one_waits_are_answered_with_it():
    """A server makes tasks of what it reads in a turn of the loop, which run in the next."""

    async def ask():
        model, loop, asked = Doubles(), asyncio.get_running_loop(), []
        model.let_go.set()

        def read():
            asked.extend(loop.create_task(batcher.predict({"X": rows(at)})) for at in (10, 20, 30))

        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(model, executor)
            first = asyncio.ensure_future(batcher.predict({"X": rows(0)}))
            await asyncio.sleep(0)
            loop.call_soon(read)
            await asyncio.wait_for(first, 30)
            await asyncio.wait_for(asyncio.gather(*asked), 30)
        return model.calls

    assert asyncio.run(ask()) == [4]


class Clock:
    """Time that passes only while samples are predicted."""

    def __init__(self, seconds):
        self.now, self.seconds, self.threads = 0.0, list(seconds), []

    def __call__(self):
        return self.now

    def predict(self, inputs):
        self.threads.append(threading.current_thread() is threading.main_thread())
        self.now += self.seconds.pop(0)
        x = inputs["X"]
        if (x < 0).any():
            raise ZeroDivisionError
        return Served(tuple(range(len(x))), ("a",) * len(x), x[:, :1], 3, ("a",))


def in_the_loop(*calls):
    """Of calls, each as many samples and seconds, which ones ran in the event loop itself."""
    clock = Clock([seconds for _, seconds in calls])

    async def ask():
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(clock.predict, executor, clock)
            for count, _ in calls:
                served = await asyncio.wait_for(batcher.predict({"X": rows(7, count)}), 30)
                assert len(served) == count
                assert served.probabilities[0, 0] == 7

    asyncio.run(ask())
    return clock.threads


def test_short_calls_run_in_the_event_loop_and_long_ones_in_a_thread():
    assert in_the_loop((1, SHORT_S), (1, 0.5), (1, 0.5)) == [False, True, True]  # that was chance
    assert in_the_loop((1, 0.5), (1, 0.5), (1, 2 * SHORT_S)) == [False] * 3


def test_a_model_that_became_slow_goes_back_to_a_thread():
    *early, last = in_the_loop((1, 0), *[(1, 1.0)] * 9)
    assert early == [False] + [True] * 8
    assert not last


def test_a_larger_call_is_taken_to_last_longer_until_one_has_run():
    calls = [(1, SHORT_S / 2), (4, SHORT_S / 2), (4, SHORT_S / 2), (1, 0)]
    assert in_the_loop(*calls) == [False, False, True, True]


def test_a_smaller_call_is_not_taken_to_be_shorter():
    assert in_the_loop((100, 5 * SHORT_S), (1, SHORT_S)) == [False, False]


def test_an_error_in_the_event_loop_reaches_whoever_asked():
    clock = Clock([0.0] * 3)

    async def ask():
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(clock.predict, executor, clock)
            await batcher.predict({"X": rows(1)})
            with pytest.raises(ZeroDivisionError):
                await batcher.predict({"X": -rows(1)})
            return await batcher.predict({"X": rows(2)})

    assert asyncio.run(ask()).probabilities.item() == 2
    assert clock.threads == [False, True, True]
