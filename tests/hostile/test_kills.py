"""Commands that are killed or stopped while they write leave the old result or the new one, whole.

A slice of what `python tests/killing.py --kills 500 --signals 200` does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the packages onnx and onnxruntime")


def test_old_or_new_is_whole_whenever_a_command_is_stopped() -> None:
    script = Path(__file__).parents[1] / "killing.py"
    ran = subprocess.run(
        [sys.executable, script, "--kills", "24", "--signals", "12"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    assert result["faults"] == {}
    assert (result["counts"]["kills"], result["counts"]["signals"]) == (24, 12)
    assert result["counts"]["ended with -9"] > 12  # and the others after their time


def test_a_run_that_was_stopped_goes_on_to_the_same_bits() -> None:
    script = Path(__file__).parents[1] / "resuming.py"
    ran = subprocess.run(
        [sys.executable, script, "--kills", "10"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    assert result["faults"] == {}
    assert result["counts"]["kills"] == 10
    assert result["counts"]["stopped with a checkpoint"] > 0  # and the others too early or too late


def test_no_row_that_was_written_is_lost() -> None:
    script = Path(__file__).parents[1] / "filling.py"
    ran = subprocess.run(
        [sys.executable, script, "--kills", "10"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    assert result["faults"] == {}
    assert result["counts"]["kills"] == 10
    assert result["counts"]["stopped with some of the rows"] > 0  # and others too early or too late
