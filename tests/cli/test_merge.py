"""skip2lora merge: one adapter of many, and what cannot be one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import skip2lora as s2


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    model = s2.MLP.create([5, 6, 4], seed=0)
    model.save("m.safetensors")
    for number in range(3):
        y = (np.arange(60) + (x[:, number] > 0)) % 4
        s2.adapt(model, x, y, recipe="paper", rank=2, epochs=5, seed=number).save(f"a{number}")
    return tmp_path


def test_merge(fleet: Path, type_in) -> None:
    done = type_in("merge", "a0", "a1", "a2", "--weights", "2,1,1", "--rank", 4, "-o", "all")
    assert (done.code, done.err) == (0, "")
    assert "all: 3 adapters (50%, 25%, 25%), rank 4, exact, " in done.out
    models = [s2.AdaptedModel.load("m.safetensors", fleet / name) for name in ("a0", "a1", "a2")]
    x = np.random.default_rng(1).normal(size=(9, 5)).astype(np.float32)
    want = np.average([of.logits(x) for of in models], axis=0, weights=[2, 1, 1])
    merged = s2.AdaptedModel.load("m.safetensors", fleet / "all")
    np.testing.assert_allclose(merged.logits(x), want, atol=1e-5)
    again = ("merge", "a0", "a1", "a2", "-o", "all")
    assert "all exists already" in type_in(*again).err
    facts = type_in(*again, "--force", "--json").json
    assert facts["weights"] == [1 / 3] * 3
    assert (facts["rank"], facts["n_outputs"], facts["n_adapters"]) == (2, 4, 3)
    assert 0.001 < facts["lost"] < 0.9
    assert f"{facts['lost']:.1%} of the squares lost" in type_in(*again, "--force").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("a0",), "adapters are 1, expected two or more to merge"),
        (("a0", "a1", "--weights", "1"), "weights are 1, expected 2 positive numbers"),
        (("a0", "a1", "--weights", "1,x"), "weights are 1,x, expected numbers with commas"),
        (("a0", "none"), "none is not an adapter folder"),
        (("a0", "m.safetensors"), "m.safetensors is not an adapter folder"),
    ],
)
def test_refused(words: tuple[str, ...], said: str, fleet: Path, type_in) -> None:
    done = type_in("merge", *words, "-o", "all")
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    assert not (fleet / "all").exists()
