"""Branches that are added, in C against ONNX Runtime: every tap and every logit."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx_models as nets
import skip2lora as s2
from c_folders import make, ran
from chain_models import Chain
from device_rows import off_by
from skip2lora.errors import ModelError
from skip2lora.export.c import export_c
from skip2lora.export.c_layers import ACTIVATION, ADD, CONVOLUTION, EXCHANGE, SAVE, TRANSPOSITION
from skip2lora.export.c_network import network_of

SHAPE, PADS = (2, 8, 7), [1, 1, 1, 1]


def ended(chain: Chain, channels: int, path: Path) -> s2.Backbone:
    chain.then("GlobalAveragePool")
    chain.then("Flatten")
    chain.dense(channels, 4)
    return s2.load(nets.save(chain.model(SHAPE, 4), path / "m.onnx"))


def kinds(model: s2.Backbone) -> list[int]:
    return [layer.kind for layer in network_of(model).layers][:-2]


def start(seed: int) -> Chain:
    chain = Chain(seed=seed)
    chain.conv((4, 2, 3, 3), pads=PADS)
    chain.then("Relu")
    return chain


def identity(chain: Chain) -> int:
    before = chain.tensor
    chain.conv((4, 4, 3, 3), pads=PADS)
    chain.norm(4)
    chain.then("Relu")
    chain.conv((4, 4, 3, 3), pads=PADS)
    chain.then("Add", before)
    return 4


def shortcut(chain: Chain) -> int:
    """As ResNet-8's: half as many places."""
    before = chain.tensor
    chain.conv((6, 4, 3, 3), pads=PADS, strides=[2, 2])
    chain.then("Relu")
    chain.conv((6, 6, 3, 3), pads=PADS)
    main, chain.tensor = chain.tensor, before
    chain.conv((6, 4, 1, 1), strides=[2, 2])
    chain.then("Add", main)
    chain.then("Relu")
    return 6


def inverted(chain: Chain) -> int:
    """As MobileNetV2's: a depthwise convolution between two of single places."""
    before = chain.tensor
    chain.conv((12, 4, 1, 1))
    chain.then("HardSwish")
    chain.conv((12, 1, 3, 3), group=12, pads=PADS)
    chain.then("HardSwish")
    chain.conv((4, 12, 1, 1))
    chain.then("Add", before)
    return 4


def nested(chain: Chain) -> int:
    before = chain.tensor
    chain.conv((4, 4, 1, 1))
    identity(chain)
    chain.then("Relu")
    chain.then("Add", before)
    return 4


def read_again(chain: Chain) -> int:
    """Both what is added and the sum go on, as before batch norm; ReLU is of one branch alone."""
    before = chain.tensor
    chain.conv((4, 4, 3, 3), pads=PADS)
    raw = chain.tensor
    chain.then("Relu")
    chain.conv((4, 4, 1, 1))
    chain.then("Add", raw)
    both = chain.tensor
    chain.norm(4)
    chain.then("Relu")
    chain.conv((4, 4, 1, 1))
    chain.then("Add", both)
    chain.then("Add", before)
    chain.then("Add", both)
    return 4


def twice(chain: Chain) -> int:
    chain.then("Add", chain.tensor)
    return 4


def in_turns(chain: Chain) -> int:
    """Layers of two branches stand in turns in the file: so do their taps."""
    one = other = chain.tensor
    for _ in range(3):
        chain.tensor = one
        chain.conv((4, 4, 3, 3), pads=PADS)
        one, chain.tensor = chain.tensor, other
        chain.conv((4, 4, 1, 1))
        chain.then("Relu")
        other = chain.tensor
    chain.then("Add", one)
    return 4


PARTS = [identity, shortcut, inverted, nested, read_again, twice, in_turns]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("part", PARTS)
def test_taps_and_logits(part: Callable[[Chain], int], seed: int, tmp_path: Path) -> None:
    chain = start(seed)
    channels = part(chain)
    model = ended(chain, channels, tmp_path)
    assert network_of(model).version == 3
    assert network_of(model).to_bytes()[4] == 3
    assert off_by(model, SHAPE) < 1e-5
    assert 1e-7 < off_by(model, SHAPE, weights="int8") < 0.03


def test_what_the_layers_are(tmp_path: Path) -> None:
    """ReLU behind a sum is its own, and one behind a fork is not of the layer before it."""
    chain = start(0)
    model = ended(chain, shortcut(chain), tmp_path)
    block = [SAVE, CONVOLUTION, CONVOLUTION, EXCHANGE, CONVOLUTION, ADD]
    assert kinds(model) == [TRANSPOSITION, CONVOLUTION, *block]
    assert [layer.relu for layer in network_of(model).layers if layer.kind == ADD] == [True]
    chain = start(0)
    other = ended(chain, read_again(chain), tmp_path)
    assert kinds(other)[3:6] == [CONVOLUTION, SAVE, ACTIVATION]


def test_the_sample_itself_is_added(tmp_path: Path) -> None:
    """It lies otherwise than maps do."""
    chain = Chain(seed=1)
    chain.conv((2, 2, 3, 3), pads=PADS)
    chain.then("Add", "x")
    chain.conv((4, 2, 3, 3))
    assert off_by(ended(chain, 4, tmp_path), SHAPE) < 1e-5


def test_vectors(tmp_path: Path) -> None:
    """Sums of a product and a constant, and of two branches; batch norm apart from any layer."""
    chain = Chain(seed=2)
    chain.norm(9)
    for _ in range(2):
        before = chain.tensor
        chain.then("MatMul", chain.net.weight(f"w{len(chain.net.nodes)}", 9, 9))
        chain.then("Add", chain.net.vector(f"b{len(chain.net.nodes)}", 9))
        chain.then("Relu")
        chain.then("MatMul", chain.net.weight(f"w{len(chain.net.nodes)}", 9, 9))
        chain.then("Add", before)
        chain.norm(9)
        chain.then("Relu")
    chain.dense(9, 4)
    model = s2.load(nets.save(chain.model((9,), 4), tmp_path / "m.onnx"))
    assert off_by(model, (9,)) < 1e-5


def test_a_folder(tmp_path: Path) -> None:
    """From an adapter; what a network has not is left out of the other."""
    chain = start(3)
    model = ended(chain, shortcut(chain), tmp_path)
    x = np.random.default_rng(0).normal(size=(30, *SHAPE)).astype(np.float32)
    adapted = s2.adapt(model, x, np.arange(30) % 4, solver="exact", penalty=0.1)
    done = export_c(adapted, tmp_path / "o", samples=x, capacity=10)
    assert done.agreement == 1.0
    assert "src/model_slots.c" in done.files
    assert b"WITHOUT_SLOTS 1" not in (tmp_path / "o/src/model_layers.h").read_bytes()
    plain = start(3)
    done = export_c(ended(plain, 4, tmp_path), tmp_path / "p", capacity=10)
    assert "src/model_slots.c" not in done.files
    assert b"WITHOUT_SLOTS 1" in (tmp_path / "p/src/model_layers.h").read_bytes()


@pytest.mark.parametrize("lacking", ["model_kinds.c", "model_file.c", "model_forward.c", "all"])
def test_a_build_whose_sources_were_given_other_options(lacking: str, tmp_path: Path) -> None:
    """They do not link; where all have no slots, the network is refused."""
    chain, out = start(6), tmp_path / "out"
    export_c(ended(chain, shortcut(chain), tmp_path), out, epochs=1)
    make(out)
    for source in (out / "src").glob("*.c"):
        if lacking in (source.name, "all"):
            place = out / "build" / source.with_suffix(".o").name
            ran("gcc", "-std=c99", "-O1", "-DS2_WITHOUT_SLOTS", "-c", source, "-o", place)
    objects, program = sorted((out / "build").glob("*.o")), tmp_path / "program"
    words = ["gcc", f"-I{out}/src", out / "main.c", *objects, "-lm", "-o", program]
    linked = subprocess.run(words, text=True, capture_output=True, check=False)
    if lacking != "all":
        assert "s2_layer_code_of" in linked.stderr
        assert not program.exists()
        return
    done = subprocess.run([program], input="", text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "network" in done.stderr


def broadcast(chain: Chain) -> None:
    before = chain.tensor
    chain.then("GlobalAveragePool")
    chain.then("Add", before, output="spread")


def excited(chain: Chain) -> None:
    before = chain.tensor
    chain.then("GlobalAveragePool")
    chain.then("Mul", before, output="scaled")


def side_by_side(chain: Chain) -> None:
    before = chain.tensor
    chain.then("Relu")
    chain.then("Concat", before, output="both", axis=1)
    chain.conv((4, 8, 1, 1))


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (broadcast, "node /spread (Add) has no counterpart in C between unlike shapes,"),
        (excited, "node /scaled (Mul) has no counterpart in C,"),
        (side_by_side, "node /both (Concat) has no counterpart in C,"),
    ],
)
def test_what_c_lacks_is_named(
    part: Callable[[Chain], None], said: str, tmp_path: Path, refused
) -> None:
    chain = start(4)
    part(chain)
    model = ended(chain, 4, tmp_path)
    message = refused(ModelError, network_of, model)
    assert said in message
    assert "taps_only=True" in message
    assert len(network_of(model, taps_only=True).layers) == 0


def test_too_many_branches_at_once(tmp_path: Path, refused) -> None:
    for depth in (8, 9):
        chain, before = start(5), []
        for _ in range(depth):
            before.append(chain.tensor)
            chain.conv((4, 4, 1, 1))
        while before:
            chain.then("Add", before.pop())
        model = ended(chain, 4, tmp_path)
        if depth == 8:
            assert off_by(model, SHAPE) < 1e-5
        else:
            assert "behind more than 8 open branches" in refused(ModelError, network_of, model)
