"""Merged adapters add to the logits what the adapters add in the mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.errors import FileError, ModelError, ParameterError
from skip2lora.fleet.merging import MOST_TAPS, factors, merge

Refused = Callable[..., str]
X = np.abs(np.random.default_rng(0).normal(size=(90, 12))).astype(np.float32)


def model(seed: int = 0, n_outputs: int = 3) -> s2.MLP:
    return s2.MLP.create([12, 9, 8, n_outputs], seed=seed)


def adapted(base: s2.MLP, seed: int, path: Path, **options: Any) -> s2.AdaptedModel:
    """Learned from other samples and other answers, so that the mean is none of them."""
    rows = np.random.default_rng(seed).permutation(len(X))[:60]
    y = (X[rows, seed] * 3).astype(int) % base.n_outputs
    y[: base.n_outputs] = range(base.n_outputs)
    options = {"recipe": "paper", "epochs": 30, "seed": seed, **options}
    result = s2.adapt(base, X[rows], y, **options)
    result.save(path)
    return result


def mean_logits(each: list[s2.AdaptedModel], weights: list[float]) -> np.ndarray:
    """In float64, of weights that add up to 1."""
    return np.asarray(
        sum(w * of.logits(X).astype(float) for of, w in zip(each, weights, strict=True))
    )


@pytest.mark.parametrize(
    "options", [{}, {"recipe": "auto", "epochs": None}, {"method": "lora-last"}]
)
@pytest.mark.parametrize("weights", [None, [3, 1, 4]])
def test_the_mean(options: dict[str, Any], weights: list[float] | None, tmp_path: Path) -> None:
    base = model()
    paths = [tmp_path / f"{seed}" for seed in range(3)]
    each = [adapted(base, seed, path, **options) for seed, path in enumerate(paths)]
    merged = s2.merge(paths, tmp_path / "all", weights=weights)
    shares = [1 / 3] * 3 if weights is None else [w / 8 for w in weights]
    np.testing.assert_allclose(merged.weights, shares)
    result = s2.AdaptedModel.load(base, tmp_path / "all")
    want = mean_logits(each, shares)
    assert np.abs(each[0].logits(X) - want).max() > 0.02
    np.testing.assert_allclose(result.logits(X), want, atol=1e-4 * np.abs(want).max())
    assert (merged.n_adapters, merged.rank, result.adapters.rank) == (3, 3, 3)
    assert merged.trainable_parameters == result.trainable_parameters
    assert merged.n_taps == len(result.adapters.lora_a)
    assert merged.lost < 1e-12


def test_logarithms_that_only_some_read(tmp_path: Path) -> None:
    """Each adapter has its own shift of the logarithm: all are taps of the mean."""
    from skip2lora.adapters.adapters import SkipAdapters
    from skip2lora.backbones.derived import Derived

    base, each = model(), []
    random = np.random.default_rng(4)
    for number, kinds in enumerate((["log"], ["log", "square"], [])):
        backbone = Derived.of(base, kinds, X * (number + 1)) if kinds else base
        lora = [
            tuple(random.normal(size=size).astype(np.float32) for size in sizes)
            for sizes in zip(*(((w, 2), (2, 3)) for w in backbone.tap_widths), strict=True)
        ]
        bias = random.normal(size=3).astype(np.float32) if number else None
        each.append(
            s2.AdaptedModel(backbone, SkipAdapters(lora[0], lora[1], bias=bias), "skip2-lora")
        )
        each[-1].save(tmp_path / str(number))
    merge(
        [tmp_path / "0", tmp_path / "1", tmp_path / "2"],
        tmp_path / "all",
        weights=[1, 2, 5],
        rank=3,
    )
    result = s2.AdaptedModel.load(base, tmp_path / "all")
    assert len(result.adapters.lora_a) == 3 + 3
    want = mean_logits(each, [1 / 8, 2 / 8, 5 / 8])
    np.testing.assert_allclose(result.logits(X), want, atol=1e-4 * np.abs(want).max())


def test_fewer_ranks_than_outputs(tmp_path: Path) -> None:
    """What is left out is the least that can be: its share of the squares is said."""
    base = model(n_outputs=8)
    paths = [tmp_path / f"{seed}" for seed in range(3)]
    each = [adapted(base, seed, path, rank=2) for seed, path in enumerate(paths)]
    losses = []
    for rank in range(1, 9):
        merged = merge(paths, tmp_path / f"rank {rank}", rank=rank)
        losses.append(merged.lost)
        result = s2.AdaptedModel.load(base, tmp_path / f"rank {rank}")
        assert (merged.rank, result.adapters.rank) == (rank, rank)
        products = [
            np.mean([of.adapters.lora_a[tap] @ of.adapters.lora_b[tap] for of in each], axis=0)
            for tap in range(3)
        ]
        lost = sum(
            np.square(p - a @ b).sum()
            for p, a, b in zip(
                products, result.adapters.lora_a, result.adapters.lora_b, strict=True
            )
        )
        assert merged.lost == pytest.approx(
            lost / sum(np.square(p).sum() for p in products), abs=1e-6
        )
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > 0.05 > 1e-9 > losses[5]  # three of rank 2 have rank 6 in all
    assert merge(paths, tmp_path / "default").rank == 2


@pytest.mark.parametrize(
    ("width", "n_outputs", "rank"), [(2, 9, 5), (9, 5, 4), (3, 3, 3), (1, 7, 1)]
)
def test_factors(width: int, n_outputs: int, rank: int) -> None:
    """The error is that of the singular values that are left out (Eckart and Young)."""
    product = np.random.default_rng(1).normal(size=(width, n_outputs))
    a, b = factors(product, rank)
    assert (a.shape, b.shape) == ((width, rank), (rank, n_outputs))
    sizes = np.linalg.svd(product, compute_uv=False)
    want = np.sqrt(np.square(sizes[rank:]).sum())
    assert np.linalg.norm(product - a.astype(float) @ b) == pytest.approx(want, abs=1e-6)


def test_what_cannot_be_merged(tmp_path: Path, refused: Refused) -> None:
    base, out = model(), tmp_path / "all"
    one, two = tmp_path / "one", tmp_path / "two"
    adapted(base, 0, one)
    adapted(base, 1, two)
    for other, options in {
        "base_fingerprint": {"base": model(seed=1)},
        "method": {"method": "lora-last"},
        "new_labels": {"new_classes": True},
        "keep_outputs": {"keep_outputs": False},
    }.items():
        odd = tmp_path / other
        given = dict(options)
        of = given.pop("base", base)
        assert isinstance(of, s2.MLP)
        if "new_classes" in given:
            y = np.arange(len(X)) % 4
            s2.adapt(of, X, y, recipe="paper", epochs=2, **given).save(odd)
        else:
            adapted(of, 1, odd, **given)
        message = refused(ModelError, merge, [one, two, odd], out)
        assert message.startswith(f"{one} and {odd} differ in ")
        assert other in message
    assert "is of lora-all" in refused(
        ModelError, merge, [one, saved(base, tmp_path / "la", "lora-all")], out
    )
    assert "adapters are 1, expected two" in refused(ParameterError, merge, [one], out)
    assert "rank is 0" in refused(ParameterError, merge, [one, two], out, rank=0)
    for weights in ([1], [1, 0], [1, -1], [1, float("nan")], [1, float("inf")], [1, 2, 3]):
        message = refused(ParameterError, merge, [one, two], out, weights=weights)
        assert "expected 2 positive numbers, one an adapter" in message
    assert "none" in refused(FileError, merge, [one, tmp_path / "none"], out)
    assert not out.exists()


def saved(base: s2.MLP, path: Path, method: str) -> Path:
    s2.adapt(base, X, np.arange(len(X)) % 3, method=method, epochs=1).save(path)
    return path


def test_too_many_logarithms(tmp_path: Path, refused: Refused) -> None:
    from skip2lora.adapters.adapters import SkipAdapters
    from skip2lora.backbones.derived import Derived

    base, paths = model(), []
    for number in range(MOST_TAPS - 2):
        backbone = Derived.of(base, ["log"], X * (number + 1))
        lora_a = tuple(np.zeros((w, 1), np.float32) for w in backbone.tap_widths)
        adapters = SkipAdapters(lora_a, (np.zeros((1, 3), np.float32),) * 4)
        paths.append(tmp_path / str(number))
        s2.AdaptedModel(backbone, adapters, "skip2-lora").save(paths[-1])
    message = refused(ParameterError, merge, paths, tmp_path / "all")
    assert f"read {MOST_TAPS - 2} logarithms" in message
    merge(paths[:-1], tmp_path / "all")
    s2.AdaptedModel.load(base, tmp_path / "all").logits(X)


def test_thresholds_of_one_are_not_those_of_all(tmp_path: Path) -> None:
    """They were chosen on what one adapter answers."""
    base = model()
    one, other = (adapted(base, n, tmp_path / f"{n}", validation=0.25) for n in (0, 1))
    one.with_thresholds(0.5).save(tmp_path / "0")
    assert s2.AdaptedModel.load(base, tmp_path / "0").thresholds is not None
    for order in (("0", "1"), ("1", "0")):
        merge([tmp_path / name for name in order], tmp_path / "all")
        assert s2.AdaptedModel.load(base, tmp_path / "all").thresholds is None
    assert other.thresholds is None
