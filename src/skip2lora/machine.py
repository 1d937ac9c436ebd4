"""The machine that measured numbers are of."""

from __future__ import annotations

import platform
from pathlib import Path


def cpu_name() -> str:
    """The processor by its own name where the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    facts = dict(line.replace("\t", "").split(": ", 1) for line in lines if ": " in line)
    for name in ("model name", "Model", "Hardware"):  # x86; the boards of ARM
        if facts.get(name):
            return facts[name].strip()
    return platform.processor() or platform.machine()
