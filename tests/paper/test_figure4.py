"""Figure 4: what is recorded, drawn and said, with sensors and without."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest

from fake_sensors import BOARD, HWMON, RAPL, fill
from skip2lora.cli import run
from skip2lora.datasets import simulated
from skip2lora.errors import MissingExtraError, ParameterError
from skip2lora.paper import figure4, printed, protocol, report
from skip2lora.paper.figure4 import ADAPT, READ, RUN
from skip2lora.power import find, host
from skip2lora.power.find import find_sensors


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The simulated task in place of HAR; the folders it was asked for."""
    asked: list[Path] = []

    def load(task: str, data: Path) -> object:
        assert task == "har"
        asked.append(data)
        return simulated.make_task(n_per_split=60)

    monkeypatch.setattr(figure4, "load_split", load)
    monkeypatch.setitem(protocol.TASKS, "har", protocol.Experiment("har", 3, 3, 4))
    return asked


@pytest.fixture
def sys_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "sys"
    root.mkdir()
    monkeypatch.setattr(host, "SYS_ROOT", root)
    monkeypatch.setitem(__import__("sys").modules, "psutil", None)
    monkeypatch.setattr(find, "DEV_ROOT", tmp_path / "dev")
    return root


def measured(sys_root: Path) -> figure4.Figure4:
    return figure4.measure(Path("x"), find_sensors(sys_root=sys_root), idle_s=0.05, after_s=0.02)


def test_phases_and_curves(small: list[Path], sys_root: Path) -> None:
    figure = measured(fill(sys_root, HWMON | BOARD))
    phases = {of.name: of for of in figure.phases}
    assert list(phases) == ["before", READ, ADAPT, RUN, "after"]
    assert phases["before"].start_s == 0
    assert phases["before"].duration_s >= 0.05
    assert phases[RUN].start_s <= phases[READ].start_s <= phases[READ].end_s
    assert phases[READ].end_s <= phases[ADAPT].start_s <= phases[ADAPT].end_s <= phases[RUN].end_s
    assert len(small) == 2  # to pre-train, and again while it is recorded
    assert [of.quantity for of in figure.traces] == ["power", "temperature", "clock", "cpu_time"]
    rows = {row[0]: row[1:] for row in figure4.rows(figure)}
    assert rows["highest power"] == ("1,455 mW", "at most 1,455 mW")
    assert rows["highest temperature"] == ("44.5 degC", "at most 44.5 degC")
    assert rows["clock"] == ("1,000 to 1,000 MHz", "600 to 1,000 MHz")
    assert rows["compute"][1] == "2.79 s"
    whole = figure.power[RUN]
    assert whole["energy_j"] == pytest.approx(1.455 * whole["duration_ms"] / 1000)
    assert whole["energy_above_idle_j"] == pytest.approx(0, abs=1e-9)
    assert figure4.missing_lines(figure) == []


def test_nothing_to_read(small: list[Path], sys_root: Path) -> None:
    figure = measured(sys_root)
    assert [of.quantity for of in figure.traces] == ["cpu_time"]
    lines = figure4.missing_lines(figure)
    assert [line.split(":")[0] for line in lines] == ["power", "temperature", "clock"]
    assert "no RAPL" in lines[0]
    here = [row[1] for row in figure4.rows(figure)]
    assert here.count("not measured") == 6
    json.dumps(figure.facts(), allow_nan=False)


def test_energy_counters_are_drawn_as_power(small: list[Path], sys_root: Path) -> None:
    figure = measured(fill(sys_root, RAPL))
    (trace,) = figure.of("power")
    assert (trace.name, trace.unit) == ("rapl package", "mW")
    assert set(trace.values) == {0.0}


def texts(figure: figure4.Figure4, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """Title of the figure, and each axes: its label and its legend."""
    from matplotlib.figure import Figure

    kept: list[Figure] = []
    real = Figure.savefig

    def keep(self: Figure, *args: object, **options: object) -> None:
        kept.append(self)
        real(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    assert figure4.draw(figure).startswith(b"\x89PNG")
    (drawn,) = kept
    found = [
        (axes.get_ylabel(), [text.get_text() for text in axes.get_legend().get_texts()])
        for axes in drawn.axes
    ]
    return [(drawn.get_suptitle(), []), *found]


def test_three_axes_with_the_papers_numbers(
    small: list[Path], sys_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    title, *axes = texts(measured(fill(sys_root, HWMON | BOARD)), monkeypatch)
    assert "nothing measures" not in title[0]
    assert [label for label, _ in axes] == ["power (mW)", "temperature (degC)", "clock (MHz)"]
    assert "paper, Raspberry Pi Zero 2 W: at most 1,455 mW" in axes[0][1]
    assert {READ, ADAPT} <= set(axes[1][1])
    assert "paper, Raspberry Pi Zero 2 W: at most 44.5 degC" in axes[1][1]
    assert sum("paper" in text for text in axes[2][1]) == 2


def test_what_is_missing_is_said_in_the_figure(
    small: list[Path], sys_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    title, *axes = texts(measured(sys_root), monkeypatch)
    assert "power: nothing measures it here: no INA219" in title[0]
    assert [label for label, _ in axes] == ["CPU of this process (%)"]
    assert not any("paper" in text for text in axes[0][1])


def test_without_matplotlib_the_extra_is_named(
    small: list[Path], sys_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = measured(sys_root)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"skip2lora\[plot\]"):
        figure4.draw(figure)


def test_a_gap_is_null_in_json(small: list[Path], sys_root: Path) -> None:
    figure = measured(fill(sys_root, HWMON))
    first = figure.traces[0]
    holed = figure4.Trace(first.name, "power", "mW", (0.0, 0.01), (math.nan, 1.0))
    facts = dataclasses.replace(figure, traces=(holed,)).facts()
    assert facts["traces"][0]["values"] == [None, 1.0]
    json.dumps(facts, allow_nan=False)


def test_the_report_has_it(small: list[Path], sys_root: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figure = measured(fill(sys_root, HWMON))
    facts = report.facts_of([], {}, figure, n_trials=1)
    report.write_report(tmp_path, facts, [], {}, figure)
    assert json.loads((tmp_path / "report.json").read_text())["figure4"]["paper"] == printed.FIGURE4
    page = (tmp_path / "report.html").read_text()
    for part in ("Figure 4", "1,455 mW", "data:image/png;base64,", "no thermal zone"):
        assert part in page


def test_the_command(
    small: list[Path], sys_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(figure4, "AFTER_S", 0.02)
    words = ["paper", "fig4", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    assert run([*words, "--idle", "0.02"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "nothing measures it here" in said.out
    assert "not measured" in said.out
    assert (tmp_path / "out" / "fig4.png").read_bytes().startswith(b"\x89PNG")
    assert run([*words, "--idle", "0.02", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["figure4"]
    assert facts["power"][ADAPT]["source"] is None


@pytest.mark.parametrize("idle", ["-1", "601", "nan"])
def test_bad_rests(idle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    code = run(["paper", "fig4", "--data", str(tmp_path), "--out", str(out), "--idle", idle])
    said = capsys.readouterr()
    assert (code, said.err.count("\n")) == (2, 1)
    assert "--idle" in said.err
    assert not out.exists()


def test_missing_data_leave_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(["paper", "fig4", "--data", str(tmp_path), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "holds no HAR data" in said
    assert said.count("\n") == 1
    assert not out.exists()
    assert run(["paper", "fig4", "--out", str(out)]) == 2
    assert "fig4 needs --data" in capsys.readouterr().err


def test_bad_rests_in_python(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="after_s is -1"):
        figure4.measure(tmp_path, find_sensors(sys_root=tmp_path), after_s=-1)


def test_printed_numbers() -> None:
    """Section 5.4, and 5.3 for the time."""
    assert printed.FIGURE4 == {
        "epochs": 200, "start_s": 9.0, "compute_s": 2.79, "max_mw": 1455.0, "max_degc": 44.5,
        "idle_mhz": 600.0, "run_mhz": 1000.0,
    }  # fmt: skip
    assert printed.FIGURE4["compute_s"] == printed.REQUIRED_SECONDS["har"]
