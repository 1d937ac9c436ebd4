"""Every kernel table of this processor, chosen by SKIP2_KERNELS, trains to nearly the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import skip2lora as s2
from skip2lora import _core

CODE = """
import sys
import numpy as np
import skip2lora as s2
from skip2lora import _core
random = np.random.default_rng(0)
x, y = random.normal(size=(47, 30)).astype(np.float32), random.integers(0, 3, 47)
model = s2.pretrain(s2.MLP.create([30, 17, 9, 3]), x, y, epochs=1)
tensors = dict(model.tensors())
for method in ("skip2-lora", "lora-all"):
    adapted = s2.adapt(model, x, y, method=method, epochs=1, learning_rate=0.1)
    tensors |= {f"{method} {name}": a for name, a in adapted.adapters.tensors().items()}
    tensors[f"{method} logits"] = adapted.logits(x)
    tensors[f"{method} loss"] = np.array(adapted.history.loss)
np.savez(sys.argv[1], kernels=_core.kernels(), **tensors)
"""


def train_with(kernels: str | None, path: Path) -> dict[str, np.ndarray]:
    environment = {name: value for name, value in os.environ.items() if name != "SKIP2_KERNELS"}
    if kernels is not None:
        environment["SKIP2_KERNELS"] = kernels
    subprocess.run([sys.executable, "-c", CODE, str(path)], env=environment, check=True)
    with np.load(path) as file:
        return dict(file)


def test_tables_agree(tmp_path: Path) -> None:
    tables = _core.kernel_tables()
    assert tables[-1] == "scalar"
    best = train_with(None, tmp_path / "best.npz")
    assert str(best.pop("kernels")) == tables[0]
    assert len(best) == 14 + (6 + 2) + (10 + 2)
    for table in tables:
        found = train_with(table, tmp_path / "a.npz")
        assert str(found.pop("kernels")) == table
        assert set(found) == set(best)
        for name, array in found.items():
            np.testing.assert_allclose(array, best[name], rtol=0, atol=2e-5, err_msg=name)
        if table == tables[0]:
            assert all(array.tobytes() == best[name].tobytes() for name, array in found.items())


@pytest.mark.parametrize("name", ["avx9000", "Scalar", "scalar,"])
def test_unknown_table(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKIP2_KERNELS", name)
    x, y = np.zeros((4, 8), np.float32), [0, 1, 2, 0]
    calls = [
        lambda: s2.MLP.create([8, 3]).predict(x),
        lambda: s2.pretrain(s2.MLP.create([8, 3]), x, y),
        lambda: s2.adapt(s2.MLP.create([8, 3]), x, y),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="SKIP2_KERNELS") as caught:
            call()
        message = str(caught.value)
        assert f"SKIP2_KERNELS is '{name}', expected one of" in message
        assert "scalar: unset it or name one of these" in message
        assert "\n" not in message


def test_empty_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKIP2_KERNELS", "")
    assert _core.kernels() == _core.kernel_tables()[0]
    monkeypatch.setenv("SKIP2_KERNELS", "scalar")
    assert _core.kernels() == "scalar"
