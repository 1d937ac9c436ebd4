"""Check that processors learn the same: Python, this machine's C, ARM, RISC-V, a Cortex-M4F.

A network is trained on the fan task's recordings of the lab, or on a simulated fan where these are
not there, and adapted to those of the field by the paper's recipe: by the package with every kernel
table that this machine has, and by the C core as a device does it (core/tests/adapt_main.c: one
block of bytes, samples one by one), compiled for each processor and run under QEMU. So is a network
of convolutions in branches that are added, of random weights, whose taps ONNX Runtime computes for
Python, where it is installed. Adapters are to be equal to 1e-5, predictions of the test samples the
same, and what one kernel table learned from its own taps is to be equal bit for bit, wherever it
ran.

    python tests/boards.py [--epochs 300] [--seed 1] [--data FOLDER]

Exits with 1 where they differ, and says which processors it has no tools for.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import skip2lora as s2
from skip2lora import _core
from skip2lora.adapters.adapters import SkipAdapters
from skip2lora.datasets import Split, fan, simulated
from skip2lora.export.c_network import network_of

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build" / "boards"
MAGIC, RANK, BATCH_SIZE, LEARNING_RATE = 0x50325332, 4, 20, 0.01
#: Targets of core/Makefile, and the words of tools/check-arm.sh for their tools.
MACHINES = {
    "adapt-host": None,
    "test-linux-arm": "linux-arm",
    "test-riscv": "riscv",
    "test-m4f": "m4f",
}
TOLERANCE = 1e-5
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Network:
    """What is adapted: its name, its block, and a fresh one for Python.

    ``shape`` is that of a sample in Python; ``of_core`` whether the core computes its taps there.
    """

    name: str
    block: bytes
    make: Callable[[], s2.Backbone]
    shape: tuple[int, ...]
    of_core: bool


def task(folder: Path) -> Split:
    """The fan task of ``folder``, or a simulated one."""
    if folder.is_dir():
        print(f"fan task damage1 from {folder}")
        return fan.load_task("damage1", folder)
    print(f"no folder {folder}: a simulated fan task (SKIP2LORA_DATA, --data)")
    return simulated.make_task()


def connected(split: Split) -> Network:
    """The paper's, fully connected, trained in the lab; its block as docs/c-blob.md has it."""
    model = s2.pretrain(
        s2.MLP.create([256, 96, 96, 3]), split.pretrain.x, split.pretrain.y, standardize=False
    )
    records, arrays = b"", b""
    for layer in model.layers:
        flags = 0 if layer.gamma is None else 3  # batch norm, ReLU
        records += struct.pack("<4I", 1, flags, *layer.weight.shape)
        own = [array for array in layer.arrays()[:6] if array is not None]
        arrays += b"".join(np.ascontiguousarray(array, "<f4").tobytes() for array in own)
    widths = model.tap_widths
    head = struct.pack(
        "<7If16x", widths[0], model.n_outputs, len(widths), len(widths), 0, 0, 0, model.bn_eps
    )
    rest = head + struct.pack(f"<{len(widths)}I", *widths) + records + arrays
    start = b"SPM2" + struct.pack("<2I", 1, len(rest) + 16)
    block = start + struct.pack("<I", zlib.crc32(rest, zlib.crc32(start))) + rest
    # A network keeps the table that it began with.
    return Network("connected", block, lambda: s2.MLP(model.layers), (256,), of_core=True)


def branched() -> Network:
    """Convolutions over the places of a spectrum: a shortcut that is the input, one that is not."""
    import onnx_models
    from chain_models import Chain

    chain = Chain(seed=0)
    chain.conv((8, 1, 9), strides=[4], pads=[4, 4])
    chain.then("Relu")
    before = chain.tensor
    chain.conv((8, 8, 3), pads=[1, 1])
    chain.norm(8)
    chain.then("Relu")
    chain.conv((8, 8, 3), pads=[1, 1])
    chain.then("Add", before)
    chain.then("Relu")
    before = chain.tensor
    chain.conv((16, 8, 3), pads=[1, 1], strides=[2])
    chain.then("HardSwish")
    chain.conv((16, 16, 3), pads=[1, 1])
    main, chain.tensor = chain.tensor, before
    chain.conv((16, 8, 1), strides=[2])
    chain.then("Add", main)
    chain.then("Relu")
    chain.then("Flatten")
    chain.dense(16 * 32, 3)
    path = onnx_models.save(chain.model((1, 256), 3), WORK / "branches.onnx")
    network = network_of(s2.load(path))
    assert network.version == 3  # the first with branches
    return Network("branches", network.to_bytes(), lambda: s2.load(path), (1, 256), of_core=False)


def written(network: bytes, split: Split, epochs: int, seed: int) -> bytes:
    """What adapt_main.c reads."""
    train, test = split.finetune, split.test
    numbers = (MAGIC, RANK, epochs, BATCH_SIZE, seed, len(train.x), len(test.x), len(network))
    parts = [
        np.ascontiguousarray(train.x, "<f4").tobytes(),
        np.ascontiguousarray(train.y, "<i4").tobytes(),
        np.ascontiguousarray(test.x, "<f4").tobytes(),
    ]
    return struct.pack("<8If", *numbers, LEARNING_RATE) + network + b"".join(parts)


def by_python(network: Network, split: Split, epochs: int, seed: int) -> dict[str, Floats]:
    """Adapters and logits of the test samples by each table, in the order of adapt_main.c."""
    results = {}
    train, test = (part.x.reshape(-1, *network.shape) for part in (split.finetune, split.test))
    for table in reversed(_core.kernel_tables()):
        os.environ["SKIP2_KERNELS"] = table
        model = network.make()
        adapted = s2.adapt(model, train, split.finetune.y, recipe="paper", epochs=epochs, seed=seed)
        adapters = adapted.adapters
        assert isinstance(adapters, SkipAdapters)
        pairs = zip(adapters.lora_a, adapters.lora_b, strict=True)
        parts = [array for pair in pairs for array in pair]
        parts.append(adapted.logits(test))
        results[f"python-{table}"] = np.concatenate([part.ravel() for part in parts])
    return results


def by_core(name: str) -> tuple[dict[str, Floats], list[str]]:
    """What each processor learned, by its name and table; and those without tools."""
    results, missing = {}, []
    out = WORK / f"{name}-out"
    out.mkdir()
    for target, word in MACHINES.items():
        check = ["sh", str(ROOT / "tools/check-arm.sh"), *([word] if word else [])]
        tools = subprocess.run(check, capture_output=True, text=True, check=False)
        if word and tools.returncode:
            missing.append(f"{target}: {tools.stderr.strip()}")
            continue
        words = ["make", "--silent", "-C", str(ROOT / "core"), target, "GOAL=adapt"]
        words += [f"IN=../build/boards/{name}", f"OUT=../build/boards/{name}-out"]
        if target == "adapt-host":
            words.append(f"BEST={' '.join(_core.kernel_tables())}")
        began = time.perf_counter()
        subprocess.run(words, check=True)
        print(f"  {time.perf_counter() - began:.1f} s, compiling included")
    for file in sorted(out.iterdir()):
        results[file.name] = np.fromfile(file, "<f4")
    return results, missing


def compare(
    results: dict[str, Floats], network: Network, n_logits: int, truth: NDArray[np.int32]
) -> bool:
    """Print how far each is from Python's scalar table; whether all are as they should be."""
    reference, whole = results["python-scalar"], True
    of_table: dict[str, bytes] = {}
    n_samples = len(truth)
    best = reference[-n_logits:].reshape(n_samples, -1).argmax(axis=1)
    print(f"\n{network.name:<20}{'adapters':>10}{'logits':>10}  predictions  bits      accuracy")
    for name, got in results.items():
        off = np.abs(got.astype(np.float64) - reference)
        own = got[-n_logits:].reshape(n_samples, -1).argmax(axis=1)
        n_other = np.count_nonzero(own != best)
        right = off[:-n_logits].max() <= TOLERANCE and n_other == 0
        machine, _, table = name.partition("-")
        bits = "ONNX's taps"
        if network.of_core or machine != "python":
            same = got.tobytes() == of_table.setdefault(table, got.tobytes())
            bits, right = table if same else "other", right and same
        whole &= bool(right)
        answers = f"{n_other} differ" if n_other else "same"
        print(
            f"{name:<20}{off[:-n_logits].max():10.1e}{off[-n_logits:].max():10.1e}  {answers:<11}  "
            f"{bits:<11}{np.mean(own == truth):8.2%}{'' if right else '   WRONG'}"
        )
    return whole


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    beside = ROOT.parent / "shared" / "data"
    folder = Path(os.environ.get("SKIP2LORA_DATA", beside)) / "cooling-fan"
    parser.add_argument("--data", type=Path, default=folder)
    options = parser.parse_args()
    split = task(options.data)
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    os.environ["SKIP2_KERNELS"] = "scalar"
    networks, missing = [connected(split)], list[str]()
    if importlib.util.find_spec("onnx") and importlib.util.find_spec("onnxruntime"):
        networks.append(branched())
    else:
        missing.append("branches: they need onnx and onnxruntime, pip group runtimes")
    whole = True
    for network in networks:
        given = written(network.block, split, options.epochs, options.seed)
        (WORK / network.name).write_bytes(given)
        results = by_python(network, split, options.epochs, options.seed)
        of_core, lacking = by_core(network.name)
        missing += [line for line in lacking if line not in missing]
        n_logits = len(split.test.x) * network.make().n_outputs
        whole &= compare({**results, **of_core}, network, n_logits, split.test.y)
    for line in missing:
        print(f"not run: {line}")
    print("all the same" if whole else "NOT the same", f"after {options.epochs} epochs")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
