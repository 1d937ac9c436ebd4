"""What a smaller Skip-Cache costs: choices that are trained, tables and figure made of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from paper.made_up import MACHINE
from skip2lora.adapt import adapt
from skip2lora.datasets import simulated
from skip2lora.paper import cache, protocol
from skip2lora.paper.cache import ALL, CHOICES, NONE, PRECISIONS, SIZES, CacheTable, Choice, Run
from skip2lora.paper.protocol import BATCH_SIZE, LEARNING_RATE, RANK


def made_up(accuracy: float = 0.9, *, same: bool = True) -> CacheTable:
    """Two trials: 10 and 40 ms without rows, 1 and 8 with all; others 5 and 10."""
    of = {choice: (Run(5, 50, 0.5, 40, 0.8), Run(10, 50, 0.7, 40, 0.9)) for choice in CHOICES}
    of[NONE] = (Run(10, 100, 0, 0, accuracy, same), Run(40, 100, 0, 0, accuracy))
    of[ALL] = (Run(1, 1, 0.9, 100, 0.9), Run(8, 1, 0.9, 100, 0.9))
    return CacheTable({"damage1": of}, MACHINE)


@pytest.fixture
def measured(small: None) -> CacheTable:
    """Three epochs on 60 simulated samples."""
    return cache.measure(["damage1"], Path("x"), MACHINE, n_trials=1)


def test_every_number_of_rows_gives_the_same_adapters(measured: CacheTable) -> None:
    runs = {choice: run for choice, (run,) in measured.runs["damage1"].items()}
    assert list(runs) == list(CHOICES)
    assert all(runs[choice].same for choice in SIZES)
    assert not runs[Choice(dtype="int4")].same
    assert not runs[Choice(projection=4)].same
    assert len({runs[choice].accuracy for choice in SIZES}) == 1


def test_pin_saves_what_the_rows_that_stay_do(measured: CacheTable) -> None:
    runs = {choice: run for choice, (run,) in measured.runs["damage1"].items()}
    for choice in SIZES:
        rows = choice.percent * 60 // 100
        if choice.policy == "pin":
            assert runs[choice].n_forwards == rows + 3 * (60 - rows)
            assert runs[choice].saved == pytest.approx(rows * 2 / 180)
        else:
            assert runs[choice].saved <= runs[Choice(choice.percent)].saved
    assert runs[NONE].n_bytes < runs[Choice(50)].n_bytes < runs[ALL].n_bytes
    sizes = [runs[of].n_bytes for of in (ALL, *PRECISIONS[1:])]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 1.6 * sizes[1]
    assert runs[Choice(projection=4)].n_bytes < runs[Choice(projection=32)].n_bytes


def test_no_rows_are_skip_lora_and_all_are_skip2_lora(small: None) -> None:
    split = simulated.make_task(n_per_split=60)
    model = protocol.pretrained(split, protocol.TASKS["damage1"], 0)
    for choice, method in ((NONE, "skip-lora"), (ALL, "skip2-lora")):
        run, adapters = cache._train(model, split, choice, 3, 0)
        known = adapt(
            model, split.finetune.x, split.finetune.labels, method=method, epochs=3, seed=0,
            rank=RANK, batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE,
        )  # fmt: skip
        assert known.history is not None
        assert cache._bits(adapters) == cache._bits(known.adapters)
        assert run.n_forwards == known.history.n_forwards
        assert run.accuracy == known.score(split.test.x, split.test.labels)


def test_cells_compare_within_a_trial() -> None:
    cell = made_up().cell("damage1", Choice(dtype="int8"))
    assert cell.time == pytest.approx((5 / 10 + 10 / 40) / 2)
    assert cell.saved == pytest.approx(60)
    assert cell.share == pytest.approx(0.4)
    assert (cell.accuracy, cell.difference) == pytest.approx((85, -5))
    assert cell.deviation == pytest.approx(5 * 2**0.5)
    runs = {choice: of[:1] for choice, of in made_up().runs["damage1"].items()}
    assert CacheTable({"damage1": runs}, MACHINE).cell("damage1", ALL).deviation is None


def test_what_a_person_and_a_machine_are_shown() -> None:
    table = made_up()
    sizes, kinds = table.grids()
    assert sizes.rows[0] == ("none: Skip-LoRA", "0.0 %\ntime 1.00")
    assert sizes.rows[1][0] == "10 %, pin"
    assert sizes.rows[-1] == ("all: Skip2-LoRA", "90.0 %\ntime 0.15")
    assert f"in all {2 * len(SIZES)} trainings" in sizes.notes[1]
    assert kinds.rows[3] == ("int8", "85.00 (-5.00)\nsize 40.0 %\ntime 0.38")
    assert kinds.rows[-1][0] == "projection 16, int8"
    other = made_up(same=False).grids()[0].notes[1]
    assert other.startswith(f"1 of {2 * len(SIZES)} trainings gave OTHER adapters")
    facts = json.loads(json.dumps(table.facts(), allow_nan=False))
    first = facts["rows"]["damage1"][0]
    assert (first["percent"], first["dtype"], len(first["runs"])) == (100, "float32", 2)


def test_the_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    drawn = []
    monkeypatch.setattr(cache, "png", lambda figure: drawn.append(figure) or b"")
    table = made_up()
    cache.draw(replace(table, runs=table.runs | {"har": table.runs["damage1"]}))
    (figure,) = drawn
    assert [axes.get_title() for axes in figure.axes[:2]] == ["Damage1", "HAR"]
    saved, time, accuracy = figure.axes[::2]
    assert [line.get_label() for line in saved.lines] == [
        "fewer rows, pin", "fewer rows, fifo", "fewer rows, lru",
    ]  # fmt: skip
    assert list(saved.lines[0].get_xdata()) == [0, 40, 40, 40, 40, 40, 100]
    assert list(time.lines[0].get_ydata())[::6] == [1, pytest.approx(0.15)]
    assert list(accuracy.lines[-1].get_ydata()) == pytest.approx([85] * 5)
    assert {text.get_text() for text in accuracy.texts} >= {"float16", "16, int8", "4"}
