"""Taps derived from what a row holds: values, what they need, and the folder that names them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora.adapters.folder import Tapping
from skip2lora.adapters.rows import RowFormat
from skip2lora.backbones.derived import Derived, DerivedTap, derived_taps, taps_samples
from skip2lora.backbones.inputs import InputSpec
from skip2lora.backbones.known_rows import KnownRows
from skip2lora.backbones.loading import CONFIG_FILE
from skip2lora.backbones.standins import Headless
from skip2lora.backbones.taps import Tap
from skip2lora.errors import DataError, ModelError, ParameterError
from skip2lora.files import read_tensors, to_bytes

Refused = Callable[..., str]
WIDTHS = [9, 16, 5, 3]
POWERS = ("square", "cube", "fourth-power")
ALL = ("log", "log-centred", "logits", *POWERS)


@pytest.fixture
def model(make_model: Any) -> s2.MLP:
    return make_model(WIDTHS)


@pytest.fixture
def samples(make_samples: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = make_samples(60, 9)
    return np.abs(x), y


def test_values(model: s2.MLP, samples: Any) -> None:
    x, _ = samples
    derived = Derived.of(model, ALL, x)
    shift = 0.01 * x.max(axis=1).mean()
    assert derived.derived[0].shift == pytest.approx(shift, rel=1e-6)
    got, own = derived.forward(derived.check(x)), model.forward(x)
    logs = np.log(x.astype(np.float64) + derived.derived[0].shift)
    unit = np.minimum(x / x.max(axis=1).mean(dtype=np.float64), 1)
    assert (unit == 1).any()
    powers = [unit**exponent for exponent in (2, 3, 4)]
    wanted = [
        logs, logs - logs.mean(axis=1, keepdims=True), own.base_logits, *powers, *own.taps
    ]  # fmt: skip
    widths = (9, 9, 3, 9, 9, 9, *model.tap_widths)
    assert derived.tap_widths == widths == tuple(tap.width for tap in derived.taps)
    for tap, want in zip(got.taps, wanted, strict=True):
        np.testing.assert_allclose(tap, want, rtol=1e-5, atol=1e-6)
    assert got.base_logits.tobytes() == own.base_logits.tobytes()


@pytest.mark.parametrize("kind", ["log-centred", *POWERS])
def test_the_unit_of_samples_is_of_no_account(kind: str, model: s2.MLP, samples: Any) -> None:
    x, _ = samples
    one, other = (Derived.of(model, [kind], x * unit) for unit in (1, np.float32(2048)))
    of_one = one.forward(x).taps[0]
    np.testing.assert_allclose(other.forward(x * np.float32(2048)).taps[0], of_one, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3, 17, 60])
def test_a_sample_alone_has_the_row_it_has_in_a_batch(
    count: int, model: s2.MLP, samples: Any
) -> None:
    x, _ = samples
    derived = Derived.of(model, ALL, x)
    whole, part = derived.forward(x), derived.forward(x[-count:])
    for tap, want in zip(part.taps, whole.taps, strict=True):
        assert np.ascontiguousarray(tap).tobytes() == want[-count:].tobytes()


def test_rows_alone_suffice(model: s2.MLP, samples: Any) -> None:
    """A row is the derived columns, then the row of the model; and needs no more than that one."""
    x, _ = samples
    derived = Derived.of(model, ALL, x)
    own, more = (RowFormat.of(each, copy_input=True) for each in (model, derived))
    rows, whole, again = own.empty(60), more.empty(60), more.empty(60)
    own.compute(model, x, rows)
    more.compute(derived, x, whole)
    assert whole[:, -own.layout.row_stride :].tobytes() == rows.tobytes()
    known = KnownRows(own.tap_widths, own.n_outputs, own.layout)
    more.compute(Derived(known, derived.derived), rows, again)
    assert again.tobytes() == whole.tobytes()


@pytest.mark.parametrize("first_tap", range(6))
def test_rows_of_some_taps_and_more_outputs(first_tap: int, model: s2.MLP, samples: Any) -> None:
    """Written by the core behind the derived columns, they are what ``forward`` gives."""
    x, _ = samples
    derived = Derived.of(model, ALL, x)
    own = RowFormat.of(derived, first_tap, n_outputs=5)
    rows = own.empty(60)
    rows[...] = -12345
    own.compute(derived, x, rows)
    made = derived.forward(x)
    places = zip(own.layout.tap_offsets, made.taps[first_tap:], strict=True)
    for start, tap in places:
        assert rows[:, start : start + tap.shape[1]].tobytes() == tap.tobytes()
    at = own.layout.logits_offset
    assert rows[:, at : at + 3].tobytes() == made.base_logits.tobytes()
    assert not rows[:, at + 3 : at + 5].any()


def test_the_core_keeps_to_its_columns(model: s2.MLP, samples: Any) -> None:
    x, _ = samples
    own = RowFormat.of(model, copy_input=True)
    wide = np.zeros((60, own.layout.row_stride + 16), np.float32)
    for column in (0, 1, 15, 17, 2**40):
        with pytest.raises(ValueError, match="rows have another shape"):
            model.network.forward(x, own.layout, 0, wide, column=column)
    model.network.forward(x, own.layout, 0, wide, column=16)
    rows = own.empty(60)
    own.compute(model, x, rows)
    assert wide[:, 16:].tobytes() == rows.tobytes()
    assert not wide[:, :16].any()


@pytest.mark.parametrize("kind", ["log", "log-centred"])
def test_a_negative_number_counts_as_0(kind: str, model: s2.MLP, samples: Any) -> None:
    x, _ = samples
    derived = Derived.of(model, [kind], x)
    below = x.copy()
    below[:, ::2] = -3e38
    tap = derived.forward(below).taps[0]
    assert np.isfinite(tap).all()
    assert tap.tobytes() == derived.forward(np.maximum(below, 0)).taps[0].tobytes()


def test_powers_of_negative_numbers_and_of_large_ones(model: s2.MLP, samples: Any) -> None:
    x = np.negative(samples[0])
    derived = Derived.of(model, POWERS, x)
    scale = np.abs(x).max(axis=1).mean()
    assert derived.derived[0].scale == pytest.approx(scale, rel=1e-6)
    ends = np.full((2, 9), 3e38, np.float32) * np.array([[1], [-1]], np.float32)
    for tap, signs in zip(derived.forward(ends).taps, ([1, 1], [1, -1], [1, 1]), strict=False):
        assert tap.tolist() == [[sign] * 9 for sign in signs]
    square, cube, _ = derived.forward(x).taps[:3]
    assert (cube < 0).any()
    assert (square >= -cube).all()


def test_samples_of_zeros_and_of_the_largest_numbers(model: s2.MLP) -> None:
    for value, shift in ((0, 1.0), (1e-45, 1.0), (3e38, 3e36)):
        x = np.full((4, 9), value, np.float32)
        derived = Derived.of(model, ["log"], x)
        assert derived.derived[0].shift == pytest.approx(shift)
        assert np.isfinite(derived.forward(x).taps[0]).all()
        powers = Derived.of(model, POWERS, x)
        assert powers.derived[0].scale == pytest.approx(value if value > 1 else 1)
        assert (powers.forward(x).taps[0] == (value > 1)).all()


def test_refusals(model: s2.MLP, samples: Any, refused: Refused) -> None:
    x, _ = samples
    negative = x.copy()
    negative[7, 2] = -0.25
    assert "sample 7 has -0.25 in column 2" in refused(
        DataError, Derived.of, model, ["log"], negative
    )
    assert "'root', expected one of" in refused(ParameterError, Derived.of, model, ["root"])
    other = NumpyBackbone(WIDTHS, first_tap_is_input=False)
    for kind in ("log-centred", "cube"):
        assert "without samples" in refused(ParameterError, Derived.of, model, [kind])
        assert "first tap" in refused(ParameterError, Derived.of, other, [kind], x)
    assert "has none" in refused(ParameterError, Derived.of, Headless(model, 0), ["logits"])
    assert Derived.of(other, ["logits"]).tap_widths == (3, *other.tap_widths)


class Reading(NumpyBackbone):
    """A model whose first layer reads ``first``, and that takes ``inputs``."""

    def __init__(self, first: Tap, *inputs: InputSpec) -> None:
        super().__init__(WIDTHS, first_tap_is_input=False)
        self._first, self.inputs = first, inputs

    @property
    def taps(self) -> tuple[Tap, ...]:
        return (self._first, *super().taps[1:])


SAMPLE = InputSpec("X", (9,), "float32")


@pytest.mark.parametrize(
    ("first", "inputs", "same"),
    [
        (Tap("1", "X", "vector", (9,)), [SAMPLE], True),
        (Tap("1", "scaled", "vector", (9,)), [SAMPLE], False),
        (Tap("1", "X", "vector", (8,)), [SAMPLE], False),
        (Tap("1", "X", "vector", (9,)), [SAMPLE, InputSpec("more", (9,), "float32")], False),
        *(
            (Tap("1", "X", "vector", (9,)), [InputSpec("X", (9,), dtype)], dtype == "float32")
            for dtype in ("float32", "float64", "float16", "int64", "int8", "uint8", "bool")
        ),
        (Tap("1", "X", "sequence", (4, 9)), [InputSpec("X", (4, 9), "float32")], False),
    ],
)
def test_logarithms_are_of_a_first_tap_that_is_the_sample(
    first: Tap, inputs: list[InputSpec], same: bool
) -> None:
    assert taps_samples(Reading(first, *inputs)) == same


@pytest.mark.parametrize("kinds", [("logits",), ("log", "log-centred"), POWERS, ALL])
def test_the_folder_brings_them_back(
    kinds: tuple[str, ...], model: s2.MLP, samples: Any, tmp_path: Path
) -> None:
    x, y = samples
    derived = Derived.of(model, kinds, x)
    adapted = s2.adapt(derived, x, y, epochs=3, standardize=True)
    assert adapted.base is model
    assert len(adapted.adapters.lora_a) == len(kinds) + 3
    adapted.save(tmp_path / "a")
    said = json.loads((tmp_path / "a" / CONFIG_FILE).read_text())
    assert [entry["kind"] for entry in said["derived_taps"]] == list(kinds)
    assert said["revision"] == model.fingerprint
    for given in (model, derived, Derived.of(model, ["logits"])):
        back = s2.AdaptedModel.load(given, tmp_path / "a")
        assert derived_taps(back.backbone) == derived.derived
        assert back.logits(-x).tobytes() == adapted.logits(-x).tobytes()
    plain = s2.adapt(model, x, y, epochs=1)
    plain.save(tmp_path / "b")
    assert not derived_taps(s2.AdaptedModel.load(derived, tmp_path / "b").backbone)


def test_outputs_anew_on_derived_taps(model: s2.MLP, samples: Any, tmp_path: Path) -> None:
    x, y = samples
    derived = Derived.of(model, ALL, x)
    adapted = s2.adapt(derived, x, np.array(list("pqr"))[y], keep_outputs=False, epochs=3)
    assert adapted.base is model
    adapted.save(tmp_path / "a")
    back = s2.AdaptedModel.load(model, tmp_path / "a")
    assert Tapping.of(back.backbone).derived == derived.derived
    assert back.logits(x).tobytes() == adapted.logits(x).tobytes()


def test_last_tap_is_the_models_own(model: s2.MLP, samples: Any) -> None:
    x, y = samples
    adapted = s2.adapt(Derived.of(model, ["log"], x), x, y, method="lora-last", epochs=2)
    assert [len(a) for a in adapted.adapters.lora_a] == [5]


def test_more_samples_later(model: s2.MLP, samples: Any) -> None:
    sklearn = pytest.importorskip("skip2lora.sklearn")
    x, y = samples
    learner = sklearn.Skip2LoRAClassifier(Derived.of(model, ALL, x), epochs=5)
    learner.partial_fit(x[:30], y[:30]).partial_fit(x[30:], y[30:])
    assert len(learner.adapted_.adapters.lora_a) == len(ALL) + 3
    assert learner.predict(-x).shape == (60,)


@pytest.mark.parametrize(
    "entries", [[{"kind": "log"}], [{"kind": "log", "shift": 0.0}], [{"kind": "cube"}], [3], 3,
    [{"kind": "log", "shift": float("inf")}], [{"kind": "root", "scale": 1.0}],
    [{"kind": "square", "scale": -1.0}]],
)  # fmt: skip
def test_damaged_description(
    entries: Any, model: s2.MLP, samples: Any, tmp_path: Path, refused: Refused
) -> None:
    x, y = samples
    s2.adapt(Derived.of(model, ["log"], x), x, y, epochs=1).save(tmp_path / "a")
    file = tmp_path / "a" / "adapter_model.safetensors"
    tensors, said = read_tensors(file, kind="adapter")
    said = {name: value for name, value in said.items() if name != "sha256"}
    file.write_bytes(to_bytes(tensors, {**said, "derived_taps": entries}))
    assert "damaged" in refused(ModelError, s2.AdaptedModel.load, model, tmp_path / "a")


def test_it_is_a_model_like_the_one_below(model: s2.MLP, samples: Any) -> None:
    x, _ = samples
    derived = Derived.of(model, ["log"], x)
    assert repr(derived) == "Derived(MLP(9-16-5-3), log)"
    assert derived.logits(x).tobytes() == model.logits(x).tobytes()
    assert derived.named(["a", "b", "c"]).class_names == ("a", "b", "c")
    assert derived.named(None) is derived
    assert derived.with_output("output").derived == derived.derived
    assert (derived.task, derived.path, derived.notes) == (model.task, None, ())
    assert (derived.outputs, derived.output) == (model.outputs, "output")
    again = copy.copy(derived)
    assert again.derived == derived.derived == (DerivedTap("log", derived.derived[0].shift),)
    assert again.fingerprint == model.fingerprint


def test_other_taps_of_the_model_keep_the_derived_ones() -> None:
    class Tapped(NumpyBackbone):
        sample_shapes = (("X", (9,), "float32"),)
        asked: Any = None

        def with_taps(self, selection: Any, **options: Any) -> NumpyBackbone:
            other = copy.copy(self)
            other.asked = selection, options
            other.tap_widths, other.weights = self.tap_widths[:1], self.weights
            return other

    model = Tapped(WIDTHS, first_tap_is_input=True)
    derived = Derived.of(model, ("square", "logits"), np.ones((2, 9), np.float32))
    assert derived.sample_shapes == model.sample_shapes
    other = derived.with_taps([0], grid=3, size=(4, 5))
    assert other.backbone.asked == ([0], {"grid": 3, "size": (4, 5)})
    assert other.derived == derived.derived
    assert other.tap_widths == (9, 3, 9)
