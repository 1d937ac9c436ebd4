"""One labelled row goes a short way from the command line to the core: see tools/walk.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

WALK = Path(__file__).parents[1] / "tools" / "walk.py"
# Modules entered, and moves between them besides those a row and an epoch. A change that needs more
# says why here: how a table of text is written is found out in a module of its own; another, with
# ten moves, matches columns by the names that model or adapter learned, where a file is read and
# where a DataFrame is passed. What was refused is looked at where formats are told apart,
# images by their names and parts (train, val, test) by theirs.
# A model is run on noise when it is loaded (probe, alone): two modules and 55 moves; its weights
# are handed over to a session, not written out for it: two moves. That opens when a row is asked
# for, so that what a sample consists of is read from the graph: a module and nine moves.
# How a result is put in its place is in a module of its own.
# Measures are printed, and predictions written, in modules of their own.
# DATA may come on standard input, and a prediction may be none of the classes.
# What reading may cost (twice of a table), and values in other files of an ONNX model, are held to
# in one each. What is kept of the old domain is found in one. Adapting makes a model of the module
# that loads one.
# How good a result is, is measured in a module of its own: one and four moves.
# Whether a network goes by a rule is asked in one: two moves.
# Which classes there are is looked at between what is kept and what is trained: one move.
# Samples are read a part at a time, and bars move meanwhile: a module each, six moves, and of a
# prediction also seven to ask whether its model runs in the core.
# Who follows training, and what is kept of it meanwhile, is said in one: four moves.
# How many rows are kept, and how often they are there, is said in one: seven moves.
# What stands in for a model, to keep rows or to tell progress, is chosen in one: three moves.
# An output is held while it is made: six moves.
# What an adapter goes on from, and DATA of several files, are asked for in one each: 15 moves.
# What outputs may be asked beside is checked where results are judged: one move.
# Rows that may lie as codes are asked for in parts: seven moves.
# Which rows are in memory, and which are read from a disk, is decided in one, above the budget that
# it asks: a module, and no move more.
# The bytes of an adapter are written, and read, in a module, no longer in a package.
# What options of images, sound and streams say is understood in one: two moves of a prediction.
# How files became the samples that a model learned is asked of it too, and what an adapter keeps of
# that is read in one: three moves of adapting, four and a module of a prediction.
# Whether groups that nobody told matter is asked where it is known how training goes: two moves.
# What an exported file says of itself is read in a module, and files are loaded above the contract:
# three modules and 16 moves of adapting, two and nine of a prediction.
# Names of classes that are never held out are asked for: one move of adapting.
# What differs between systems is asked for in one: a module and 21 moves of each.
# Rows of a table are put together as they come, and those beyond memory in a file: two modules and
# nine moves of each.
MOST = {"adapt": (59, 316), "predict": (46, 240)}


@pytest.fixture(scope="module")
def counts() -> dict[str, dict[str, float]]:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    done = subprocess.run(
        [sys.executable, WALK, "--json"], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("command", MOST)
def test_a_row_enters_few_modules_and_seldom_comes_back(command, counts):
    modules, moves = MOST[command]
    assert counts[command]["modules"] <= modules
    assert counts[command]["moves_besides"] <= moves


def test_prediction_does_not_train(counts):
    assert counts["predict"]["moves_per_epoch"] == 0
    assert counts["adapt"]["moves_per_epoch"] > 0
