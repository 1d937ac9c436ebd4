"""Firmware with a runtime of its own: emlearn's network in C, or a stand-in with its interface."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import skip2lora as s2
from c_folders import need, ran, rows_of
from skip2lora.export.c import export_c

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = Path(__file__).parent / "stand_in"
WIDTHS = (6, 8, 5, 3)


def headers_of_emlearn() -> Path | None:
    spec = importlib.util.find_spec("emlearn")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def network_of(model: s2.MLP) -> str:
    """The layers as emlearn writes them."""
    text, last = ['#include "eml_net.h"'], len(model.layers) - 1
    entries = []
    for number, layer in enumerate(model.layers):
        for name, array in (("w", layer.weight), ("b", layer.bias)):
            values = ", ".join(
                f"{value:.9g}f" if value % 1 else f"{value:.1f}f" for value in array.ravel()
            )
            text.append(f"static const float {name}{number}[] = {{{values}}};")
        n_in, n_out = layer.weight.shape
        kind = "Identity" if number == last else "Relu"
        entries.append(f"{{{n_out}, {n_in}, w{number}, b{number}, EmlNetActivation{kind}}}")
    text.append(f"static const EmlNetLayer layers[] = {{{', '.join(entries)}}};")
    return "\n".join(text) + "\n"


@pytest.mark.parametrize("headers", ["emlearn", "a stand-in"])
def test_the_runtime_of_the_firmware(headers, make_model, make_samples, tmp_path, monkeypatch):
    need("gcc")
    folder = STAND_IN if headers == "a stand-in" else headers_of_emlearn()
    if folder is None:
        pytest.skip("needs the package emlearn")
    monkeypatch.setenv("SKIP2_KERNELS", "scalar")
    model, (x, y) = make_model(WIDTHS, batch_norm=False), make_samples(40, WIDTHS[0])
    out = tmp_path / "board"
    export_c(model, out, taps_only=True, epochs=20)
    (tmp_path / "network.h").write_text(network_of(model))
    sources = sorted((out / "src").glob("*.c"))
    example = ROOT / "examples" / "emlearn_taps.c"
    ran(
        "gcc", "-O1", f"-I{out}/src", f"-I{folder}", f"-I{tmp_path}", example, *sources, "-lm",
        "-o", tmp_path / "firmware",
    )  # fmt: skip
    said = ran(tmp_path / "firmware", given=rows_of(x, y)).splitlines()
    adapted = s2.adapt(model, x, y, recipe="paper", epochs=20)
    assert said[0] == f"40 samples, loss {adapted.history.loss[-1]:.6f}"
    logits = np.array([float(line) for line in said[1:]], np.float32)
    np.testing.assert_allclose(logits, adapted.logits(x[-1:])[0], rtol=1e-4, atol=1e-4)
