"""The report: its page, its facts, and what it is not mixed with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fake_sensors import HWMON, fill
from skip2lora.paper import figure4, printed, report
from skip2lora.paper.tables import figure3, table3, table4
from skip2lora.paper.timing_tables import TimeTable
from skip2lora.power.find import find_sensors


def test_report_holds_everything(kept: Path) -> None:
    tables = [table3(kept, ["damage1"], 3), table4(kept, ["damage1"], 3)]
    curves = figure3(kept, ["damage1"], 3)
    facts = report.facts_of(tables, curves, n_trials=3)
    report.write_report(kept, facts, tables, curves)
    assert json.loads((kept / "report.json").read_text()) == json.loads(json.dumps(facts))
    page = (kept / "report.html").read_text()
    for part in (
        "Table 3",
        "Table 4",
        "Figure 3",
        "98.73±2.11",
        "data:image/png;base64,",
        "1.06 s",
    ):
        assert part in page
    assert "http" not in page.replace("</html>", "").replace("<!doctype html>", "")
    report.check_report(kept)


def test_the_report_shows_them(table: TimeTable, tmp_path: Path) -> None:
    facts = report.facts_of([table], {}, n_trials=3)
    report.write_report(tmp_path, facts, [table], {})
    page = (tmp_path / "report.html").read_text()
    for part in ("Table 6: execution time on Fan", "0.309 ms", "89.0 to 92.0", "Abacus", "+19.0 %"):
        assert part in page
    kept = json.loads((tmp_path / "report.json").read_text())
    assert kept["tables"][0]["rows"]["ft-all"]["backward"]["paper_ms"] == 2.866


def measured(sys_root: Path) -> figure4.Figure4:
    return figure4.measure(Path("x"), find_sensors(sys_root=sys_root), idle_s=0.05, after_s=0.02)


def test_the_report_has_it(small_har: list[Path], sys_root: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figure = measured(fill(sys_root, HWMON))
    facts = report.facts_of([], {}, figure, n_trials=1)
    report.write_report(tmp_path, facts, [], {}, figure)
    assert json.loads((tmp_path / "report.json").read_text())["figure4"]["paper"] == printed.FIGURE4
    page = (tmp_path / "report.html").read_text()
    for part in ("Figure 4", "1,455 mW", "data:image/png;base64,", "no thermal zone"):
        assert part in page
