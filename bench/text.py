"""Numbers and tables as text, and files written whole."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def number(value: float) -> str:
    """Three significant digits, thousands grouped."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(of: Mapping[str, float], scale: float = 1.0) -> str:
    median, *ends = (number(scale * of[name]) for name in ("median", "smallest", "largest"))
    return f"{median} ({ends[0]} to {ends[1]})"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Markdown, with an empty line after it."""
    made = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    made += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return [*made, ""]


def compact(results: Mapping[str, Any]) -> str:
    """Small, and a line a part and item, so that differences can be read."""
    parts = []
    for name, of in results.items():
        inner = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in of.items())
        parts.append(f"{json.dumps(name)}: {{\n{inner}\n}}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def write_text(path: Path, text: str) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
