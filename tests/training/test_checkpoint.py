"""A run that was stopped goes on from its checkpoint and ends with the bits of one that was not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from desk import blobs
from skip2lora import _core, files
from skip2lora.adapted import NewlyAdapted
from skip2lora.errors import FileError, ModelError, ParameterError
from skip2lora.training import checkpoint as module
from skip2lora.training.watch import FILE

WIDTHS = [12, 8, 3]
RUNS: dict[str, dict[str, Any]] = {
    "paper": {"epochs": 9},
    "moments, samples held out": {
        "epochs": 30, "optimizer": "adam", "validation": 0.3, "patience": 2, "learning_rate": 0.3,
    },
    "scaled": {"epochs": 9, "standardize": True, "schedule": "cosine"},
    "without a cache": {"epochs": 9, "cache": False},
    "all layers": {"epochs": 9, "method": "lora-all", "optimizer": "momentum"},
    "network": {"epochs": 9, "method": "ft-all"},
    "last layer": {"epochs": 9, "method": "ft-last"},
    "old samples": {"epochs": 9, "keep": blobs(0)},
}  # fmt: skip


class StopError(Exception):
    """Of a callback."""


def stop_at(*epochs: int) -> Callable[[s2.EpochReport], None]:
    def follow(report: s2.EpochReport) -> None:
        if report.epoch in epochs:
            raise StopError

    return follow


@pytest.fixture
def model(make_model: Any) -> s2.MLP:
    return make_model(WIDTHS)


def bits(of: NewlyAdapted) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in of.adapters.tensors().items()}


@pytest.mark.filterwarnings("ignore::skip2lora.errors.ForgettingWarning")
@pytest.mark.parametrize("run", RUNS)
def test_stopped_runs_end_with_the_same_bits(run: str, model: s2.MLP, tmp_path: Path) -> None:
    x, y = blobs(1, shift=1.0)
    y = np.where(np.arange(len(y)) % 5, y, (y + 1) % 3)  # never learned to a loss of 0
    whole = s2.adapt(model, x, y, **RUNS[run])
    kept = s2.Checkpoint(tmp_path / "new" / "folder")
    n_epochs = len(whole.history.loss)
    assert n_epochs > 3
    if "patience" in RUNS[run]:
        assert whole.history.best_epoch < n_epochs - 1
    for epoch in sorted({1, 2, n_epochs - 1}):  # then the newest is not the best of those held out
        with pytest.raises(StopError):
            s2.adapt(model, x, y, checkpoint=kept, callback=stop_at(epoch), **RUNS[run])
    for _ in range(2):  # to its end, and then a finished one
        result = s2.adapt(model, x, y, checkpoint=kept, callback=stop_at(1, 2), **RUNS[run])
        assert bits(result) == bits(whole)
        for name in ("loss", "accuracy", "validation_loss", "best_epoch", "n_batches"):
            assert getattr(result.history, name) == getattr(whole.history, name)
        assert (result.fit is None) == (whole.fit is None)
        if result.fit is not None and whole.fit is not None:
            assert result.fit.on_all.overall == whole.fit.on_all.overall


def test_any_model_goes_on(tmp_path: Path) -> None:
    model, (x, y) = NumpyBackbone(WIDTHS, first_tap_is_input=False), blobs(1)
    options: dict[str, Any] = {"epochs": 4, "seed": 7}
    kept = s2.Checkpoint(tmp_path, every=0)
    with pytest.raises(StopError):
        s2.adapt(model, x, y, checkpoint=kept, callback=stop_at(3), **options)
    seen: list[int] = []
    result = s2.adapt(
        model, x, y, checkpoint=kept, callback=lambda report: seen.append(report.epoch), **options
    )
    assert seen == [4]
    assert bits(result) == bits(s2.adapt(model, x, y, **options))


@pytest.mark.parametrize(("every", "writes"), [(0, 5), (1e9, 1)])
def test_how_often_it_is_written(
    every: float, writes: int, model: s2.MLP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    def write(path: Path, content: bytes) -> None:
        written.append(len(content))
        files.write_bytes(path, content)

    monkeypatch.setattr(module, "write_bytes", write)
    s2.adapt(model, *blobs(1), epochs=5, checkpoint=s2.Checkpoint(tmp_path, every=every))
    assert len(written) == writes
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]


x, y = blobs(1)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"epochs": 4}, "epochs 3 in place of 4"),
        ({"seed": 5}, "seed 0 in place of 5"),
        ({"learning_rate": 0.5}, "learning_rate 0.01 in place of 0.5"),
        ({"X": x + 1}, "other samples"),
        ({"y": np.roll(y, 1)}, "other answers"),
        ({"sample_weight": 1 + y}, "other weights"),
        ({"validation_data": (x, y)}, "other samples for validation"),
        ({"model": [12, 9, 3]}, "other model"),
        ({"new_classes": True, "y": np.where(y == 1, 7, y)}, "other answers"),
    ],
    ids=str,
)
def test_another_run_is_refused(
    change: dict[str, Any], what: str, make_model: Any, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"X": x, "y": y, "epochs": 3, "checkpoint": s2.Checkpoint(tmp_path)}
    s2.adapt(make_model(WIDTHS), **asked)
    before = (tmp_path / FILE).read_bytes()
    model = make_model(change.pop("model", WIDTHS))
    with pytest.raises(ModelError, match=f"is of another run, with {what}"):
        s2.adapt(model, **(asked | change))
    assert (tmp_path / FILE).read_bytes() == before


def test_other_kernels_are_another_run(
    model: s2.MLP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = s2.Checkpoint(tmp_path)
    s2.adapt(model, x, y, epochs=2, checkpoint=kept)
    monkeypatch.setattr(_core, "kernels", lambda: "abacus")
    with pytest.raises(ModelError, match=r"kernels .* in place of abacus"):
        s2.adapt(model, x, y, epochs=2, checkpoint=kept)


def test_what_is_there_is_refused_unless_a_run_may_go_on(model: s2.MLP, tmp_path: Path) -> None:
    anew = s2.Checkpoint(tmp_path, resume=False)
    s2.adapt(model, x, y, epochs=2, checkpoint=anew)
    with pytest.raises(FileError, match=r"is there already.*pass resume=True"):
        s2.adapt(model, x[:0], y, epochs=2, checkpoint=anew)  # before anything else is looked at


def test_bad_places_and_numbers_are_refused(model: s2.MLP, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="every is -1, expected a number of seconds"):
        s2.Checkpoint(tmp_path, every=-1)
    with pytest.raises(
        ParameterError, match=r"checkpoint is str, expected a skip2lora\.Checkpoint"
    ):
        s2.adapt(model, x, y, checkpoint=str(tmp_path))  # type: ignore[arg-type]
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot make"):
        s2.adapt(model, x, y, epochs=2, checkpoint=s2.Checkpoint(tmp_path / "file"))


@pytest.mark.parametrize(
    "damage", ["cut", "text", "numbers", "losses", "size", "another file", "no best"]
)
def test_a_damaged_checkpoint_is_refused(damage: str, model: s2.MLP, tmp_path: Path) -> None:
    kept, file = s2.Checkpoint(tmp_path), tmp_path / FILE
    s2.adapt(model, x, y, epochs=3, validation=0.2, checkpoint=kept)
    tensors, about = files.read_tensors(file, kind=module.KIND)
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "text":
        file.write_text("nothing")
    else:
        about |= {
            "numbers": {"numbers": [1, 2]}, "losses": {"losses": ["a"]},
            "another file": {"kind": "adapter"},
        }.get(damage, {})  # fmt: skip
        if damage == "size":
            tensors["newest"] = np.append(tensors["newest"], np.float32(0))
        if damage == "no best":
            del tensors["best"]
        files.write_bytes(file, files.to_bytes(tensors, about))
    before = file.read_bytes()
    with pytest.raises(ModelError, match=str(file)):
        s2.adapt(model, x, y, epochs=3, validation=0.2, checkpoint=kept)
    assert file.read_bytes() == before


def test_a_state_that_is_not_finite_is_not_written(model: s2.MLP, tmp_path: Path) -> None:
    with pytest.raises(s2.DivergedError):
        s2.adapt(
            model, x * 1e15, y, epochs=99, learning_rate=1e10, checkpoint=s2.Checkpoint(tmp_path)
        )
    assert not (tmp_path / FILE).exists()
