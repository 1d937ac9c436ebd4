"""Trials as they are kept on disk, with numbers of one's own."""

from __future__ import annotations

import json
from pathlib import Path

from skip2lora.paper import trials


def keep(out: Path, part: str, task: str, seed: int, numbers: dict, version: int = 1) -> None:
    file = trials.trial_file(out, part, task, seed)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"version": version, "numbers": numbers}))
