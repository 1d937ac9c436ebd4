"""How many modules one labelled row walks through, from the command line to the core and back.

    python tools/walk.py [--json | --list]

Runs `skip2lora adapt model.onnx field.csv -o adapter` and `skip2lora predict model.onnx field.csv
--adapter adapter -o p.csv` in this process, on an ONNX model of two layers and 60 rows of 8
features that it writes to a temporary folder, and follows every call by sys.setprofile.

    calls     calls of functions that stand in a file of skip2lora, also those of a comprehension
              and of each step of a generator; not what dataclasses generate; not returns
    modules   distinct modules of the calls
    moves     neighbouring calls in two modules; a return is no move, the next call after it is
    besides   moves less those that grow with the rows and the epochs: the command runs again with
              more rows, and with more epochs, and a line through the counts leaves the constant

Each command runs once before it is counted, so nothing that is only imported counts.

`--list` shows the walk itself, one module a line: the calls in it, and `xN` where lines repeat.
Functions that are called more often for more rows or epochs are left out of it.

To compare: at commit 9b6a6a3 adapt enters 43 modules in 456 moves (236 besides), predict 35 in 272
(152). Moves depend a little on the nodes of the model.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import skip2lora
from skip2lora.cli import run

ROWS, EPOCHS, FEATURES, HIDDEN, CLASSES = 60, 50, 8, 16, 3
MORE_ROWS, MORE_EPOCHS = 63, 80  # rows below 64, which the frozen model takes at once
PACKAGE = str(Path(skip2lora.__file__).parent) + os.sep


class Call(NamedTuple):
    """One call: the module without the name of the package, and the function."""

    module: str
    function: str


class Walk(NamedTuple):
    """The calls of a command, those with more rows and with more epochs."""

    base: list[Call]
    more_rows: list[Call]
    more_epochs: list[Call]


def write_model(path: Path) -> None:
    """Write Gemm, Relu, Gemm with random weights, (n, FEATURES) to (n, CLASSES)."""
    random = np.random.default_rng(0)

    def constant(name: str, *shape: int) -> Any:
        return numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name)

    def tensor(name: str, width: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])

    nodes = [
        helper.make_node("Gemm", ["x", "w0", "b0"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "w1", "b1"], ["logits"]),
    ]
    constants = [
        constant("w0", FEATURES, HIDDEN),
        constant("b0", HIDDEN),
        constant("w1", HIDDEN, CLASSES),
        constant("b1", CLASSES),
    ]
    graph = helper.make_graph(
        nodes, "net", [tensor("x", FEATURES)], [tensor("logits", CLASSES)], constants
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


def write_samples(path: Path, rows: int) -> None:
    """Write ``rows`` samples and their labels, the numbers from 0."""
    random = np.random.default_rng(1)
    lines = [",".join(f"f{column}" for column in range(FEATURES)) + ",label"]
    for row, features in enumerate(random.normal(size=(rows, FEATURES))):
        lines.append(",".join(f"{value:.6f}" for value in features) + f",{row % CLASSES}")
    path.write_text("\n".join(lines) + "\n")


def calls_of(arguments: Sequence[str]) -> list[Call]:
    """Run one command and return its calls inside skip2lora, in their order."""
    calls = []

    def follow(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            module = frame.f_globals["__name__"].removeprefix("skip2lora.")
            calls.append(Call(module, frame.f_code.co_qualname))

    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        sys.setprofile(follow)
        try:
            code = run(arguments)
        finally:
            sys.setprofile(None)
    if code != 0:
        raise SystemExit(f"skip2lora {' '.join(arguments)} ended with {code}: {output.getvalue()}")
    return calls


def walks() -> dict[str, Walk]:
    """The walks of adapt and predict, in a folder of their own."""
    adapt: dict[tuple[int, int], list[Call]] = {}
    predict: dict[tuple[int, int], list[Call]] = {}
    warm_up = (ROWS, EPOCHS)
    sizes = [warm_up, (ROWS, EPOCHS), (MORE_ROWS, EPOCHS), (ROWS, MORE_EPOCHS)]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        write_model(Path("model.onnx"))
        for rows, epochs in sizes:
            write_samples(Path("field.csv"), rows)
            shutil.rmtree("adapter", ignore_errors=True)
            Path("p.csv").unlink(missing_ok=True)
            files = ["model.onnx", "field.csv"]
            # 50 epochs are the default of such a model; said, the walk is the same.
            adapt[rows, epochs] = calls_of(
                ["adapt", *files, "-o", "adapter", "--epochs", str(epochs)]
            )
            predict[rows, epochs] = calls_of(
                ["predict", *files, "--adapter", "adapter", "-o", "p.csv"]
            )
    keys = sizes[1:]
    return {
        "adapt": Walk(*(adapt[key] for key in keys)),
        "predict": Walk(*(predict[key] for key in keys)),
    }


def moves(calls: Sequence[Call]) -> int:
    """How often the module changes from one call to the next."""
    return sum(here.module != there.module for here, there in pairwise(calls))


def counts(walk: Walk) -> dict[str, float]:
    """What the docstring of this file defines."""
    base = moves(walk.base)
    per_row = (moves(walk.more_rows) - base) / (MORE_ROWS - ROWS)
    per_epoch = (moves(walk.more_epochs) - base) / (MORE_EPOCHS - EPOCHS)
    return {
        "calls": len(walk.base),
        "modules": len({call.module for call in walk.base}),
        "moves": base,
        "moves_per_row": per_row,
        "moves_per_epoch": per_epoch,
        "moves_besides": round(base - per_row * ROWS - per_epoch * EPOCHS),
    }


def steady(walk: Walk) -> list[Call]:
    """The calls of functions that are called as often for more rows and epochs."""
    base, more_rows, more_epochs = (Counter(calls) for calls in walk)
    return [call for call in walk.base if base[call] == more_rows[call] == more_epochs[call]]


def folded(lines: Sequence[tuple[str, str]]) -> Iterator[str]:
    """One line of text a module; a pattern of up to four lines that repeats is shown once."""
    at = 0
    while at < len(lines):
        for length in (1, 2, 3, 4):
            pattern, repeats = lines[at : at + length], 1
            while lines[at + repeats * length : at + (repeats + 1) * length] == pattern:
                repeats += 1
            if repeats > 1:
                break
        else:
            pattern, repeats = lines[at : at + 1], 1
        for number, (module, functions) in enumerate(pattern):
            times = f"x{repeats}" if repeats > 1 and number == 0 else ""
            yield f"{times:>4} {module:<28} {functions}"
        at += len(pattern) * repeats


def listed(calls: Sequence[Call]) -> Iterator[str]:
    """The modules in the order of the walk, with the functions called at each stay."""
    lines: list[tuple[str, list[str]]] = []
    for call in calls:
        if not lines or lines[-1][0] != call.module:
            lines.append((call.module, []))
        name = call.function.replace(".<locals>", "")
        if name not in lines[-1][1]:
            lines[-1][1].append(name)
    yield from folded([(module, ", ".join(functions)) for module, functions in lines])


def main() -> None:
    """Print the counts, as JSON with ``--json``, and the walks with ``--list``."""
    parser = argparse.ArgumentParser(description="Count the modules that one row walks through.")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--list", action="store_true", help="print the walk, a module a line")
    options = parser.parse_args()
    by_command = walks()
    if options.json:
        print(json.dumps({name: counts(walk) for name, walk in by_command.items()}))
        return
    for name, walk in by_command.items():
        count = counts(walk)
        print(
            f"{name}: {count['calls']:,} calls, {count['modules']} modules, {count['moves']} "
            f"moves: {count['moves_per_row']:g} a row, {count['moves_per_epoch']:g} an epoch, "
            f"{count['moves_besides']} besides"
        )
        if options.list:
            print("\n".join(listed(steady(walk))))


if __name__ == "__main__":
    main()
