"""Parts of samples: rows kept, adapters that go on, statistics that follow."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from conformance.numpy_backbone import NumpyBackbone
from skip2lora.backbones.recipe import PAPER
from skip2lora.errors import DataError, DivergedError, ModelError
from skip2lora.methods import METHODS
from skip2lora.tasks.task import CLASSIFICATION, PLAIN, TASKS, Goal
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.loop import train
from skip2lora.training.options import resolve_options
from skip2lora.training.stream import Part, Stream, learn, without

WIDTHS = [9, 16, 5, 3]


def options(n_samples: int, **given: Any) -> Any:
    settings = {"epochs": 20, "rank": 2, "optimizer": "adam"} | given
    return resolve_options(PAPER, WIDTHS[:-1], n_samples, **settings)


@pytest.fixture(params=["MLP", "NumPy"])
def backbone(request: pytest.FixtureRequest, make_model: Any) -> Any:
    if request.param == "MLP":
        return make_model(WIDTHS)
    return NumpyBackbone(WIDTHS, first_tap_is_input=False)


@pytest.fixture
def samples(make_samples: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = make_samples(60, 9)
    return x * np.float32(5) + np.arange(9, dtype=np.float32) * 3, y.astype(np.int32)


@pytest.mark.parametrize("method", ["skip2-lora", "lora-last"])
@pytest.mark.parametrize("standardize", [True, False])
def test_one_part_is_plain_training(
    backbone: Any, samples: Any, method: str, standardize: bool
) -> None:
    x, y = samples
    chosen = METHODS[method]
    goal = Goal(CLASSIFICATION, 4)
    first_tap = range(3)[chosen.adapted].start
    stream = Stream.start(backbone, first_tap=first_tap)
    kept, done = learn(stream, Part(x, y), options=options(60, standardize=standardize), goal=goal)
    chosen_options = options(60, method=method, cache=True, standardize=standardize)
    whole = train(backbone, CheckedSamples(x, y), chosen_options, goal=goal)
    want = whole.adapters.tensors()
    assert done.adapters.tensors().keys() == want.keys()
    for name, array in done.adapters.tensors().items():
        np.testing.assert_allclose(array, want[name], rtol=0, atol=1e-6, err_msg=name)
    assert done.history.n_forwards == 60
    assert len(kept) == 60
    assert len(stream) == 0  # the one before is as it was


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("standardize", [True, False])
def test_adapters_go_on_from_where_they_were(
    backbone: Any, samples: Any, task: str, standardize: bool
) -> None:
    """Statistics move with the samples; outputs do not, until training moves them."""
    x, y = samples
    goal = Goal(TASKS[task])
    answers = x[:, :3] * 100 + 7 if task == "regression" else y
    rate = 0.01 if standardize else 1e-4
    stream, _ = learn(
        Stream.start(backbone), Part(x[:30], answers[:30]), goal=goal,
        options=options(30, learning_rate=rate, standardize=standardize),
    )  # fmt: skip
    before = stream.adapters.logits(backbone, x)
    assert np.abs(before - backbone.forward(x).base_logits).max() > 0.01
    still = options(60, learning_rate=1e-12, epochs=1, standardize=standardize)
    more, _ = learn(stream, Part(x[30:] * 3, answers[30:]), options=still, goal=goal)
    after = more.adapters.logits(backbone, x)
    np.testing.assert_allclose(after, before, rtol=0, atol=2e-5 * np.abs(before).max())


def test_what_is_kept_is_a_fair_choice(samples: Any) -> None:
    """Early and late samples stay equally often."""
    backbone = NumpyBackbone(WIDTHS, first_tap_is_input=False)
    x, _ = samples
    kept = np.zeros(6)
    for seed in range(40):
        stream = Stream.start(backbone)
        for part in range(6):
            given = np.full(10, part % 3, np.int32)
            n_samples = len(stream) + 10
            of = options(n_samples, epochs=1, rank=1, standardize=True, seed=100 * seed + part)
            marked = x[part * 10 :][:10]
            stream, _ = learn(stream, Part(marked, given), options=of, goal=PLAIN, capacity=12)
            assert len(stream) == min(n_samples, 12)
            assert len(stream.cache.rows) == len(stream.keys) == len(stream)
        taps = stream.cache.rows[:, :8]
        everything = backbone.forward(x).taps[0]
        places = [int(np.argmin(np.abs(everything - row).sum(axis=1))) for row in taps]
        assert (stream.answers == np.array(places) // 10 % 3).all()  # rows with their answers
        kept += np.bincount(np.array(places) // 10, minlength=6)
    assert kept.sum() == 480
    assert kept.min() > 50  # 80 each, were it exact
    assert kept.max() < 115


def test_lora_last_keeps_the_last_tap_alone(backbone: Any, samples: Any) -> None:
    x, y = samples
    stream = Stream.start(backbone, first_tap=2)
    kept, done = learn(stream, Part(x, y), options=options(60, standardize=True), goal=PLAIN)
    assert done.adapters.first_tap == kept.adapters.first_tap == 2
    assert done.cache_bytes == 60 * (5 + 3) * 4


def test_rows_refuse_what_the_backbone_did_not_announce(samples: Any) -> None:
    backbone = NumpyBackbone(WIDTHS, first_tap_is_input=False)
    stream = Stream.start(backbone)
    backbone.tap_widths = (8, 16, 4)
    with pytest.raises(ModelError, match="tap 2 has shape"):
        learn(
            Stream.start(backbone),
            Part(*samples),
            options=options(60, rank=1, standardize=True),
            goal=PLAIN,
        )
    assert len(stream) == 0


def test_models_and_rows_go_to_other_processes(make_model: Any, samples: Any) -> None:
    x, y = samples
    model = make_model(WIDTHS)
    model.predict(x)
    assert copy.deepcopy(model) is model
    again = pickle.loads(pickle.dumps(model))  # noqa: S301
    assert again.logits(x).tobytes() == model.logits(x).tobytes()
    assert again.fingerprint == model.fingerprint
    assert not again.layers[0].weight.flags.writeable
    stream, _ = learn(
        Stream.start(model), Part(x, y), options=options(60, standardize=True), goal=PLAIN
    )
    copied = pickle.loads(pickle.dumps(stream))  # noqa: S301
    assert copied.cache.rows.tobytes() == stream.cache.rows.tobytes()
    assert copied.cache.format.layout.tap_offsets == stream.cache.format.layout.tap_offsets
    assert copied.adapters.logits(again, x).tobytes() == stream.adapters.logits(model, x).tobytes()


def parts_of(samples: Any, *ends: int) -> list[Part]:
    x, y = samples
    return [Part(x[a:b], y[a:b]) for a, b in pairwise((0, *ends))]


def after(backbone: Any, parts: list[Part], **given: Any) -> list[Stream]:
    """The streams of some parts, one by one."""
    streams = [Stream.start(backbone)]
    for part in parts:
        n_samples = len(streams[-1]) + len(part.answers)
        stream, _ = learn(streams[-1], part, options=options(n_samples, **given), goal=PLAIN)
        streams.append(stream)
    return streams


@pytest.mark.parametrize("standardize", [True, False])
def test_rows_grow_in_place(backbone: Any, samples: Any, standardize: bool) -> None:
    """They are copied where the room ends alone, and what was trained has the same bits."""
    parts = parts_of(samples, 20, 25, 30, 35, 40, 45, 60)
    streams = after(backbone, parts, epochs=1, standardize=standardize)
    copied = [
        not np.shares_memory(one.cache.rows, more.cache.rows) for one, more in pairwise(streams[1:])
    ]
    assert copied == [True, False, False, False, True, False]  # for 20, then 40 and 80 samples
    x, _ = samples
    whole = streams[-1].cache.format.empty(60)
    streams[-1].cache.format.compute(backbone, x, whole)
    for stream in streams:
        assert stream.cache.rows.tobytes() == whole[: len(stream)].tobytes()
        assert stream.cache.filled.all()


def test_two_that_go_on_from_one_do_not_meet(backbone: Any, samples: Any) -> None:
    first, second, third, fourth = parts_of(samples, 20, 25, 30, 35)
    fork = after(backbone, [first, second])[-1]
    for part in (third, fourth, third):  # the first goes on in place, the others take a copy
        more, _ = learn(fork, part, options=options(30), goal=PLAIN)
        alone = after(backbone, [first, second, part])[-1]
        assert more.cache.rows.tobytes() == alone.cache.rows.tobytes()
        for name, array in alone.adapters.tensors().items():
            assert more.adapters.tensors()[name].tobytes() == array.tobytes()


def test_a_stream_whose_training_failed_goes_on(
    backbone: Any, samples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = parts_of(samples, 20, 25, 30)
    stream = after(backbone, [first, second])[-1]
    broken = Part(np.full((5, 9), 1e38, np.float32), second.answers)
    with pytest.raises((ModelError, DivergedError)):
        learn(stream, broken, options=options(30, learning_rate=1e30, optimizer="sgd"), goal=PLAIN)
    more, _ = learn(stream, third, options=options(30), goal=PLAIN)
    alone = after(backbone, [first, second, third])[-1]
    assert more.cache.rows.tobytes() == alone.cache.rows.tobytes()


def pickled(stream: Stream) -> Any:
    return pickle.loads(pickle.dumps(stream))  # noqa: S301, written just now


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_a_copy_takes_no_spare_room_along(copied: Any, make_model: Any, samples: Any) -> None:
    first, second, third = parts_of(samples, 20, 25, 30)
    stream = after(make_model(WIDTHS), [first, second])[-1]
    assert stream.room.n_rows == 40
    other = copied(stream)
    assert other.room.n_rows == 0
    one, both = (learn(of, third, options=options(30), goal=PLAIN)[0] for of in (other, stream))
    assert one.cache.rows.tobytes() == both.cache.rows.tobytes()
    assert not np.shares_memory(one.cache.rows, both.cache.rows)


@pytest.fixture
def stream(make_model: Any, samples: Any) -> Stream:
    x, y = samples
    model = make_model(WIDTHS)
    part, given = Part(x[:10], y[:10]), options(10, epochs=1)
    return learn(Stream.start(model), part, options=given, goal=PLAIN)[0]


@pytest.mark.parametrize(
    ("which", "said"),
    [
        ([-1], "which has the number -1, expected 0 to 9, as 10 samples are kept"),
        ([3, 12, 10], "which has the number 12, expected 0 to 9"),
        ([10], "which has the number 10, expected 0 to 9"),
        ([2, 2], "which has 2 numbers of 10 samples, expected different ones and not all"),
        (list(range(10)), "which has 10 numbers of 10 samples, expected different ones"),
        ([[1]], "which has shape (1, 1) and type int64, expected whole numbers"),
        ([1.0], "which has shape (1,) and type float64, expected whole numbers"),
        (3, "which has shape () and type int64, expected whole numbers"),
    ],
)
def test_samples_that_cannot_be_left_out(which: Any, said: str, stream: Any, refused: Any) -> None:
    assert said in refused(DataError, without, stream, which)


@pytest.mark.parametrize("which", [[], [0], [9], [0, 9, 4], list(range(9))])
def test_samples_are_left_out_by_number(which: list[int], stream: Any) -> None:
    rest = without(stream, which)
    stay = [at for at in range(10) if at not in which]
    np.testing.assert_array_equal(rest.cache.floats, stream.cache.floats[stay])
    np.testing.assert_array_equal(rest.answers, stream.answers[stay])
    assert (len(rest), rest.cache.filled.all()) == (len(stay), True)
