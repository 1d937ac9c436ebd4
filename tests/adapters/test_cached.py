"""A model whose rows lie in a folder: the same adapters bit for bit, and no forward pass twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnx_models
import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora.adapters import cached, shards
from skip2lora.adapters.cached import depends_on, rows_kept_in
from skip2lora.adapters.rows import RowFormat
from skip2lora.adapters.store import MANIFEST
from skip2lora.backbones.base import Taps
from skip2lora.data.image_options import Images

Make = Callable[..., Any]
WIDTHS = [12, 16, 8, 3]


def content(adapted: Any, folder: Path) -> bytes:
    adapted.save(folder)
    files = b"".join(file.read_bytes() for file in sorted(folder.iterdir()))
    shutil.rmtree(folder)
    return files


@pytest.fixture
def models(tmp_path: Path, make_model: Make) -> dict[str, Any]:
    onnx_models.save(onnx_models.mlp(WIDTHS), tmp_path / "m.onnx")
    return {
        "c": make_model(WIDTHS),
        "onnx": s2.load(tmp_path / "m.onnx"),
        "numpy": NumpyBackbone(WIDTHS, first_tap_is_input=False),
    }


OPTIONS: list[dict[str, Any]] = [
    {"epochs": 2}, {"method": "lora-last", "epochs": 2}, {"method": "skip-lora", "epochs": 2},
    {"recipe": "paper", "epochs": 2}, {"solver": "exact"}, {"validation": 0.2, "epochs": 2},
    {"keep_outputs": False}, {"suspects": True, "epochs": 2}, {"standardize": False, "epochs": 2},
]  # fmt: skip


@pytest.mark.parametrize("kind", ["c", "onnx", "numpy"])
def test_the_same_adapters_bit_for_bit(
    kind: str, models: dict[str, Any], make_samples: Make, tmp_path: Path
) -> None:
    model, (x, y) = models[kind], make_samples(90, 12)
    folder, first = s2.CacheFolder(tmp_path / "cache"), True
    for options in OPTIONS:
        plain = s2.adapt(model, x, y, **options)
        kept = s2.adapt(model, x, y, cache=folder, **options)
        assert content(kept, tmp_path / "a") == content(plain, tmp_path / "a"), options
        assert kept.history is not None
        assert kept.history.n_forwards == (90 if first else 0), options
        first = False
    again = s2.adapt(model, x, y, cache=s2.CacheFolder(tmp_path / "cache"), **options)
    assert content(again, tmp_path / "a") == content(plain, tmp_path / "a")
    assert again.history is not None
    assert again.history.n_forwards == 0
    assert again.backbone is model


@pytest.mark.parametrize("kind", ["c", "onnx", "numpy"])
def test_rows_are_read_over_whatever_the_memory_held(
    kind: str, models: dict[str, Any], make_samples: Make, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model, (x, y) = models[kind], make_samples(90, 12)
    folder = tmp_path / "cache"
    s2.fill(model, x[:60], s2.CacheFolder(folder))

    def unset(rows: RowFormat, n_rows: int) -> Any:
        return np.full((n_rows, rows.layout.row_stride), np.nan, np.float32)

    monkeypatch.setattr(cached, "_unset", unset)
    for n in (60, 90):
        kept = s2.adapt(model, x[:n], y[:n], epochs=2, cache=s2.CacheFolder(folder))
        plain = s2.adapt(model, x[:n], y[:n], epochs=2)
        assert content(kept, tmp_path / "a") == content(plain, tmp_path / "a")
        s2.fill(model, x[:n], s2.CacheFolder(folder))
    of_none = s2.fill(model, x, s2.CacheFolder(tmp_path / "other"))
    assert s2.fill(model, x, s2.CacheFolder(folder)).digest == of_none.digest


@pytest.mark.parametrize("width", [16, 3000])  # rows below and above what counts as narrow
@pytest.mark.parametrize("kept_as", ["float32", "int8"])
def test_rows_are_read_to_where_they_stay(
    width: int, kept_as: str, tmp_path: Path, make_samples: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several shards, in any order, without a copy between; outputs are others or the same."""
    model = NumpyBackbone([12, width, 8, 3], first_tap_is_input=False)
    x, y = make_samples(300, 12)
    others = np.random.default_rng(0).permutation(300)
    s2.fill(model, x[::2], s2.CacheFolder(tmp_path / "cache"))
    s2.fill(model, x, s2.CacheFolder(tmp_path / "cache"))
    monkeypatch.setattr(cached, "_unset", None)  # the copy that there would be
    for keep_outputs in (True, False):
        y = y if keep_outputs else y % 2  # of two outputs in the place of three
        if width == 16 and not keep_outputs:  # of narrow rows, it costs less than many calls
            monkeypatch.undo()
        for order in (slice(None), others):
            options = {"keep_outputs": keep_outputs, "epochs": 2, "cache_dtype": kept_as}
            cache = s2.CacheFolder(tmp_path / "cache")
            there = s2.adapt(model, x[order], y[order], cache=cache, **options)
            plain = s2.adapt(model, x[order], y[order], **options)
            assert content(there, tmp_path / "a") == content(plain, tmp_path / "a")
            assert there.history is not None
            assert there.history.n_forwards == 0


def test_spectra_with_derived_taps(
    models: dict[str, Any], tmp_path: Path, make_samples: Make
) -> None:
    x, y = make_samples(60, 12)
    for cache in (None, s2.CacheFolder(tmp_path / "cache"), s2.CacheFolder(tmp_path / "cache")):
        adapted = s2.adapt(models["c"], np.abs(x), y, cache=cache)
        assert content(adapted, tmp_path / "a") == content(
            s2.adapt(models["c"], np.abs(x), y), tmp_path / "a"
        )
    assert adapted.history is not None
    assert adapted.history.n_forwards == 0


def test_new_and_changed_samples_alone_are_computed(tmp_path: Path, make_samples: Make) -> None:
    x, y = make_samples(50, 12)
    model = NumpyBackbone(WIDTHS, first_tap_is_input=False)
    folder = s2.CacheFolder(tmp_path)
    s2.adapt(model, x[:40], y[:40], cache=folder)
    assert model.n_forwards == 40
    changed = x.copy()
    changed[7, 3] += 1
    adapted = s2.adapt(model, changed, y, cache=folder)
    assert model.n_forwards == 51
    assert adapted.history is not None
    assert adapted.history.n_forwards == 11
    s2.adapt(model, np.concatenate([x, changed, x]), np.tile(y, 3), cache=folder)
    assert model.n_forwards == 51


def test_equal_samples_pass_once(tmp_path: Path, make_samples: Make) -> None:
    x, y = make_samples(50, 12)
    model = NumpyBackbone(WIDTHS, first_tap_is_input=False)
    twice, answers = np.repeat(x, 2, axis=0), np.repeat(y, 2)
    plain = s2.adapt(model, twice, answers)
    before = model.n_forwards
    kept = s2.adapt(model, twice, answers, cache=s2.CacheFolder(tmp_path / "c"))
    assert content(kept, tmp_path / "a") == content(plain, tmp_path / "a")
    assert model.n_forwards - before == 50


def test_old_and_validation_samples_are_kept_too(tmp_path: Path, make_samples: Make) -> None:
    x, y = make_samples(60, 12)
    model = NumpyBackbone(WIDTHS, first_tap_is_input=False)
    more: dict[str, Any] = {"keep": (x[:20], y[:20]), "validation_data": (x[20:30], y[20:30])}
    plain = s2.adapt(model, x[30:], y[30:], **more)
    for n_forwards in (60, 0):
        before = model.n_forwards
        kept = s2.adapt(model, x[30:], y[30:], cache=s2.CacheFolder(tmp_path / "c"), **more)
        assert content(kept, tmp_path / "a") == content(plain, tmp_path / "a")
        assert model.n_forwards - before == n_forwards
        assert kept.history is not None
        assert kept.history.n_forwards == n_forwards


def test_what_was_computed_stays_whatever_ends_it(
    tmp_path: Path, make_samples: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = make_samples(600, 12)
    model = NumpyBackbone(WIDTHS, first_tap_is_input=False)
    folder = s2.CacheFolder(tmp_path)
    forward = model.forward

    def stopping(part: np.ndarray) -> Any:
        if model.n_forwards >= 256:
            raise KeyboardInterrupt
        return forward(part)

    monkeypatch.setattr(model, "forward", stopping)
    with pytest.raises(KeyboardInterrupt):
        s2.adapt(model, x, y, cache=folder)
    monkeypatch.undo()
    s2.adapt(model, x, y, cache=s2.CacheFolder(tmp_path))
    assert model.n_forwards == 600


def test_shards_are_written_when_full_or_after_a_while(
    tmp_path: Path, make_samples: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, _ = make_samples(300, 12)
    model = NumpyBackbone(WIDTHS, first_tap_is_input=False)
    monkeypatch.setattr(shards, "_MANY", 128)
    for seconds, sizes in ((1e9, [44, 128, 128]), (-1.0, [44, 64, 64, 64, 64])):
        monkeypatch.setattr(cached, "_SECONDS", seconds)
        folder = tmp_path / str(seconds)
        with rows_kept_in(s2.CacheFolder(folder), model) as (kept, filling):
            kept.forward(x)
        assert filling.n_computed == 300
        assert sorted(len(np.load(file)) for file in folder.glob("*.npy")) == sizes


FIELDS = (
    "model", "runtime", "skip2lora", "kernels", "machine", "tapping", "images", "tap_widths",
    "n_outputs", "row_floats", "dtype",
)  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_each_field_of_the_manifest_counts(
    name: str, models: dict[str, Any], make_samples: Make, tmp_path: Path, refused: Make
) -> None:
    x, y = make_samples(20, 12)
    folder, model = s2.CacheFolder(tmp_path / "c"), models["onnx"]
    s2.adapt(model, x, y, cache=folder, epochs=1)
    file = folder.path / MANIFEST
    about = depends_on(model, RowFormat.of(model, copy_input=True), None)
    assert tuple(about) == FIELDS
    file.write_text(json.dumps({**json.loads(file.read_text()), name: "another"}))
    message = refused(s2.ModelError, s2.adapt, model, x, y, cache=folder, epochs=1)
    assert f"{name.replace('_', ' ')} another, got " in message


def test_what_rows_depend_on(models: dict[str, Any], tmp_path: Path) -> None:
    import onnxruntime

    def about(model: Any, images: Images | None = None) -> dict[str, Any]:
        return depends_on(model, RowFormat.of(model, copy_input=True), images)

    model, other = models["onnx"], models["onnx"].with_taps(1)
    differing = {name for name, value in about(model).items() if about(other)[name] != value}
    assert differing == {"tapping", "tap_widths", "row_floats"}
    assert about(model)["runtime"] == f"onnxruntime {onnxruntime.__version__}"
    assert about(models["c"])["runtime"] is None
    assert about(model, Images.parse("8x8", None, None))["images"] is not None
    onnx_models.save(onnx_models.mlp(WIDTHS, seed=1), tmp_path / "b.onnx")
    another = about(s2.load(tmp_path / "b.onnx"))
    assert {name for name, value in about(model).items() if another[name] != value} == {"model"}


def test_rows_that_change_with_the_samples_are_refused(
    make_model: Make, make_samples: Make, tmp_path: Path, refused: Make
) -> None:
    x, y = make_samples(200, 12)
    model, folder = make_model(WIDTHS), s2.CacheFolder(tmp_path)
    message = refused(s2.ParameterError, s2.adapt, model, x, y, cache=folder)
    assert "batch-norm statistics of these samples" in message
    assert "solver='exact', or leave cache= out" in message
    assert not list(tmp_path.iterdir())
    message = refused(s2.ParameterError, s2.adapt, model, x, y, cache=folder, method="ft-all")
    assert "use skip2-lora" in message
    s2.adapt(model, x, y, cache=folder, solver="exact")


def test_rows_of_a_file_that_is_damaged_between_two_looks_are_computed_again(
    tmp_path: Path, make_samples: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, _ = make_samples(40, 12)
    model, folder = NumpyBackbone(WIDTHS, first_tap_is_input=False), s2.CacheFolder(tmp_path)
    with rows_kept_in(folder, model) as (_, filling):
        append, calls = folder.append, 0

        def damaging(samples: Any, rows: Any) -> None:
            """The first file is not sound any more by the second look, as if others wrote it."""
            nonlocal calls
            calls += 1
            append(samples, rows)
            if calls == 1:
                folder._sound.clear()
                file = next(tmp_path.glob("*.npy"))
                content = bytearray(file.read_bytes())
                content[200] ^= 1
                file.write_bytes(content)

        monkeypatch.setattr(folder, "append", damaging)
        with pytest.warns(s2.errors.DamagedCacheWarning):
            places = filling.locate(x, lambda _: None)
        layout = filling.format
        rows, expected = layout.empty(40), layout.empty(40)
        places.read(rows)
        layout.compute(model, x, expected)
    assert not len(places.missing)
    assert filling.n_computed == 80
    np.testing.assert_array_equal(rows, expected)


class Dropping(NumpyBackbone):
    """Leaves out other numbers each time."""

    runtime = None

    def forward(self, x: np.ndarray) -> Taps:
        taps = super().forward(x)
        keep = np.random.default_rng(len(self.batches)).random(taps.taps[-1].shape) < 0.5
        return Taps((*taps.taps[:-1], taps.taps[-1] * keep), taps.base_logits)


def test_a_model_that_is_random_is_refused(tmp_path: Path, make_samples: Make) -> None:
    x, y = make_samples(20, 12)
    model, folder = Dropping(WIDTHS, first_tap_is_input=False), s2.CacheFolder(tmp_path)
    with pytest.raises(s2.ModelError, match="other numbers when it passed again"):
        s2.adapt(model, x, y, cache=folder, epochs=1)
    assert not list(tmp_path.glob("*.npy"))
