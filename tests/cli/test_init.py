"""The command line as a whole: its help, its version, and how it is started."""

from __future__ import annotations

import subprocess
import sys

import skip2lora as s2


def test_help_names_every_command_and_python_m_works(type_in):
    listed = type_in("--help").out
    for command in ("demo", "dataset", "pretrain", "adapt", "evaluate", "predict", "inspect"):
        assert command in listed
        assert type_in(command, "--help").code == 0
    assert type_in().out == listed
    done = subprocess.run(
        [sys.executable, "-m", "skip2lora", "--version"], capture_output=True, text=True
    )
    assert done.stdout.strip() == f"skip2lora {s2.__version__}"
