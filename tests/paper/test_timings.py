"""Tables 2, 6 and 7: what is measured, how it is set beside the paper, and the command."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from skip2lora.cli import run
from skip2lora.methods import METHODS
from skip2lora.paper import printed, report, timings


def test_methods_are_measured_as_they_are(small: None) -> None:
    calls: list[int] = []
    times = timings.time_methods("fan", "damage1", Path(), n_runs=2, follow=lambda: calls.append(1))
    assert len(calls) == 2 * len(METHODS)
    assert (times.epochs, times.n_samples) == (3, 60)
    assert 0 < times.core_share < 1.01
    for name, runs in times.runs.items():
        assert len(runs) == 2
        for of in runs:
            assert of.n_batches == 3 * 3
            assert min(of.untimed_us, of.predict_us, of.forward_us) > 0
            assert set(of.phases_us) == set(timings.PHASES)
            assert (of.phases_us["rows"] > 0) == METHODS[name].freezes_below
            assert (of.phases_us["update"] > 0) == (not METHODS[name].skip)
            assert of.sum_us == pytest.approx(sum(of.phases_us.values()))


def test_times_of_layers_are_in_us_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    class Profile:
        def __init__(self, n_layers: int) -> None:
            self.parts_ns = np.arange(1, 1 + n_layers) * 21_000_000

    batches = SimpleNamespace(history=SimpleNamespace(n_batches=21))
    monkeypatch.setattr(timings, "_fit", lambda *_: batches)
    monkeypatch.setattr(timings._core, "Profile", Profile)
    monkeypatch.setattr(timings, "_load", lambda *_: (None, SimpleNamespace(layers=[None] * 3)))
    [one] = timings.time_layers("fan", "damage1", Path(), n_runs=1).repetitions
    assert one.tolist() == [1000, 2000, 3000]


def test_one_core_while_it_is_measured(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of those allowed, from the first run to the last, and all of them again after."""
    now = [{0, 2, 3}]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: now[-1], raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, to: now.append(to), raising=False)
    seen: list[set[int]] = []
    for measure in (timings.time_layers, timings.time_methods):
        measure("fan", "damage1", Path(), n_runs=1, follow=lambda: seen.append(now[-1]))
        assert now == [{0, 2, 3}, {3}, {0, 2, 3}]
        del now[1:]
    assert seen == [{3}] * (1 + len(METHODS))
    with pytest.raises(KeyError), timings.one_core():
        raise KeyError
    assert now == [{0, 2, 3}, {3}, {0, 2, 3}]


def test_a_system_that_pins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with timings.one_core() as share:
        time.sleep(0.05)
        first = share()
        while share() <= first:
            pass  # it runs again
    assert 0 <= first < 1


@pytest.mark.parametrize("what", ["table2", "table6", "table7"])
def test_the_command(
    what: str, small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report"
    words = ["paper", what, "--data", str(tmp_path), "--trials", "2", "--out", str(out)]
    assert run([*words, "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)["tables"]
    assert facts == json.loads((out / f"{what}.json").read_text())
    assert facts["machine"]["kernels"] == report.machine()["kernels"]
    if what == "table2":
        assert list(facts["rows"]) == ["fan", "har"]
        fan = facts["rows"]["fan"]
        assert fan["forward FC1"]["paper"] == 71.80
        made = np.array(facts["repetitions_us"]["fan"])
        assert made.shape == (2, 3, 2, 4)
        assert fan["forward FC1"]["us"]["smallest"] == made[:, 0, 0, 0].min() > 0
        for direction in ("forward", "backward"):
            of = [cell["percent"]["median"] for p, cell in fan.items() if p.startswith(direction)]
            assert all(share > 0 for share in of)
            assert 90 < sum(of) < 110
    else:
        assert list(facts["rows"]) == list(METHODS)
        assert facts["dataset"] == ("fan" if what == "table6" else "har")
        assert {len(runs) for runs in facts["runs"].values()} == {2}
        assert facts["rows"]["skip2-lora"]["weight update"]["us"] is None
        assert set(facts["saved_percent"]) > set(printed.REDUCTIONS)
        assert facts["whole"]["lora-all"]["gflop_per_s"] > 0
    assert run(words) == 0
    said = capsys.readouterr().out
    assert f"Table {what[-1]}" in said
    assert "kernels" in said
    assert f"{what}.json" in said
