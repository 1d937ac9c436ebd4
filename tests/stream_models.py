"""Small networks with a state between calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

from onnx_models import Net, save, value

STEP, WIDTH, HIDDEN = 3, 5, 6


def words(n_samples: int = 60) -> dict[str, np.ndarray]:
    """Samples of four calls, whose class shows from the third on."""
    random = np.random.default_rng(0)
    y = random.integers(0, 4, n_samples)
    x = random.normal(size=(n_samples, 4 * STEP, WIDTH))
    x[:, 2 * STEP :] += np.eye(WIDTH)[y][:, None]
    return {"X": x.astype(np.float32), "y": y}


def lstm(
    path: Path, *, batch: Any = "n", names: tuple[str, ...] = ("h0", "c0", "hn", "cn"),
    classes: int = 4, end: str | None = "Softmax", kind: str = "LSTM", seed: int = 0,
) -> Path:  # fmt: skip
    """(n, 3, 5) and states (1, n, 6) to classes and the next states; a GRU has but one."""
    net = Net(seed=seed)
    gates, n_states = (4, 2) if kind == "LSTM" else (3, 1)
    frames = net.node("Transpose", ["x"], "frames", perm=[1, 0, 2])
    weights = [
        net.weight("w", 1, gates * HIDDEN, WIDTH),
        net.weight("r", 1, gates * HIDDEN, HIDDEN),
    ]
    given, after = names[:n_states], names[len(names) // 2 :][:n_states]
    bias = net.constant("b", net.random.normal(size=(1, 2 * gates * HIDDEN)).astype(np.float32))
    net.nodes.append(
        helper.make_node(
            kind, [frames, *weights, bias, "", *given], ["all", *after], name="/rnn",
            hidden_size=HIDDEN,
        )
    )  # fmt: skip
    zero = net.constant("zero", np.array([0], np.int64))
    row = net.node("Squeeze", [after[0], zero], "row")
    logits = net.node(
        "Gemm", [row, net.weight("v", HIDDEN, classes), net.vector("d", classes)], "fc"
    )
    output = net.node(end, [logits], "y") if end else logits
    states = [value(name, [1, batch, HIDDEN]) for name in (*given, *after)]
    inputs = [value("x", [batch, STEP, WIDTH]), *states[:n_states]]
    outputs = [value(output, [batch, classes]), *states[n_states:]]
    return save(net.model(inputs, outputs), path)
