"""Check that processors learn the same: Python, this machine's C, ARM, RISC-V, a Cortex-M4F.

A network is trained on the fan task's recordings of the lab, or on a simulated fan where these are
not there, and adapted to those of the field by the paper's recipe: by the package with every kernel
table that this machine has, and by the C core as a device does it (core/tests/adapt_main.c: one
block of bytes, samples one by one), compiled for each processor and run under QEMU. Adapters are to
be equal to 1e-5, predictions of the test samples the same, and what one kernel table learned is to
be equal bit for bit, wherever it ran.

    python tests/boards.py [--epochs 300] [--seed 1] [--data FOLDER]

Exits with 1 where they differ, and says which processors it has no tools for.
"""

from __future__ import annotations

import argparse
import os
import shutil
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import skip2lora as s2
from skip2lora import _core
from skip2lora.adapters.adapters import SkipAdapters
from skip2lora.datasets import Split, fan, simulated

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


def task(folder: Path) -> Split:
    """The fan task of ``folder``, or a simulated one."""
    if folder.is_dir():
        print(f"fan task damage1 from {folder}")
        return fan.load_task("damage1", folder)
    print(f"no folder {folder}: a simulated fan task (SKIP2LORA_DATA, --data)")
    return simulated.make_task()


def block(model: s2.MLP) -> bytes:
    """The network as docs/c-blob.md has it."""
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
    return start + struct.pack("<I", zlib.crc32(rest, zlib.crc32(start))) + rest


def written(model: s2.MLP, split: Split, epochs: int, seed: int) -> bytes:
    """What adapt_main.c reads."""
    train, test, network = split.finetune, split.test, block(model)
    numbers = (MAGIC, RANK, epochs, BATCH_SIZE, seed, len(train.x), len(test.x), len(network))
    parts = [
        np.ascontiguousarray(train.x, "<f4").tobytes(),
        np.ascontiguousarray(train.y, "<i4").tobytes(),
        np.ascontiguousarray(test.x, "<f4").tobytes(),
    ]
    return struct.pack("<8If", *numbers, LEARNING_RATE) + network + b"".join(parts)


def by_python(model: s2.MLP, split: Split, epochs: int, seed: int) -> Floats:
    """Adapters and logits of the test samples, in the order of adapt_main.c."""
    adapted = s2.adapt(
        model, split.finetune.x, split.finetune.y, recipe="paper", epochs=epochs, seed=seed
    )
    adapters = adapted.adapters
    assert isinstance(adapters, SkipAdapters)
    parts = [array for pair in zip(adapters.lora_a, adapters.lora_b, strict=True) for array in pair]
    parts.append(adapters.logits(model, split.test.x))
    return np.concatenate([part.ravel() for part in parts])


def by_core() -> tuple[dict[str, Floats], list[str]]:
    """What each processor learned, by its name and table; and those without tools."""
    results, missing = {}, []
    for target, word in MACHINES.items():
        check = ["sh", str(ROOT / "tools/check-arm.sh"), *([word] if word else [])]
        tools = subprocess.run(check, capture_output=True, text=True, check=False)
        if word and tools.returncode:
            missing.append(f"{target}: {tools.stderr.strip()}")
            continue
        words = ["make", "--silent", "-C", str(ROOT / "core"), target, "GOAL=adapt"]
        words += ["IN=../build/boards/in", "OUT=../build/boards"]
        if target == "adapt-host":
            words.append(f"BEST={' '.join(_core.kernel_tables())}")
        began = time.perf_counter()
        subprocess.run(words, check=True)
        print(f"  {time.perf_counter() - began:.1f} s, compiling included")
    for file in sorted(WORK.iterdir()):
        if file.name != "in":
            results[file.name] = np.fromfile(file, "<f4")
    return results, missing


def compare(results: dict[str, Floats], n_logits: int, truth: NDArray[np.int32]) -> bool:
    """Print how far each is from Python's scalar table; whether all are as they should be."""
    reference, whole = results["python-scalar"], True
    tables = {name.partition("-")[2] for name in results if name.startswith("python-")}
    n_samples = len(truth)
    best = reference[-n_logits:].reshape(n_samples, -1).argmax(axis=1)
    print(f"\n{'':<20}{'adapters':>10}{'logits':>10}  predictions  bits of scalar  accuracy")
    for name, got in results.items():
        off = np.abs(got.astype(np.float64) - reference)
        own = got[-n_logits:].reshape(n_samples, -1).argmax(axis=1)
        n_other = np.count_nonzero(own != best)
        right = off[:-n_logits].max() <= TOLERANCE and n_other == 0
        table = name.partition("-")[2]
        if table in tables:  # with one table the same bits, whatever the machine
            right &= got.tobytes() == results[f"python-{table}"].tobytes()
        whole &= bool(right)
        answers = f"{n_other} differ" if n_other else "same"
        bits = "same" if got.tobytes() == reference.tobytes() else "other"
        print(
            f"{name:<20}{off[:-n_logits].max():10.1e}{off[-n_logits:].max():10.1e}  {answers:<11}  "
            f"{bits:<14}{np.mean(own == truth):8.2%}{'' if right else '   WRONG'}"
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
    model = s2.pretrain(
        s2.MLP.create([256, 96, 96, 3]), split.pretrain.x, split.pretrain.y, standardize=False
    )
    (WORK / "in").write_bytes(written(model, split, options.epochs, options.seed))
    results = {}
    for table in reversed(_core.kernel_tables()):
        os.environ["SKIP2_KERNELS"] = table
        fresh = s2.MLP(model.layers)  # a network keeps the table that it began with
        results[f"python-{table}"] = by_python(fresh, split, options.epochs, options.seed)
    of_core, missing = by_core()
    whole = compare({**results, **of_core}, len(split.test.x) * model.n_outputs, split.test.y)
    for line in missing:
        print(f"not run: {line}")
    print("all the same" if whole else "NOT the same", f"after {options.epochs} epochs")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
