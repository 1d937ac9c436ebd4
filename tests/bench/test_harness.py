"""What the bench scripts share and reckon. Whether anything is fast, no test says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import finetuning
import growth
import harness
import memory
from harness import Side

BENCH = Path(harness.__file__).parent


def test_sides_are_run_in_turn_and_counted_by_unit(monkeypatch):
    """With a clock of our own: every run of a side takes what the side says."""
    now, log = [0.0], []
    monkeypatch.setattr(harness.time, "perf_counter", lambda: now[0])

    def side(name, takes, units):
        def run():
            log.append(name)
            now[0] += takes

        return Side(run, units)

    sides = {"a": side("a", 1.0, 4), "b": side("b", 0.5, 1)}
    took = harness.in_turn(sides, rounds=3, seconds=2.0)
    assert took == {"a": [0.25] * 3, "b": [0.5] * 3}
    # After the warm-up two runs of a and four of b last two seconds each, in turn.
    assert log[-18:] == (["a"] * 2 + ["b"] * 4) * 3


def test_a_side_too_fast_for_one_run_is_repeated(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(harness.time, "perf_counter", lambda: now[0])

    def run():
        now[0] += 1e-6

    took = harness.in_turn({"a": Side(run)}, rounds=1, seconds=0.01)
    assert took["a"][0] == pytest.approx(1e-6)
    assert now[0] >= 0.01


def test_spread_and_ratios():
    assert harness.spread([3e-6, 1e-6, 2e-6], 1e6) == {
        "median": 2.0,
        "smallest": 1.0,
        "largest": 3.0,
    }
    # Round by round, not of the medians.
    assert harness.ratios([10, 30, 80], [10, 10, 20]) == {
        "median": 3.0,
        "smallest": 1.0,
        "largest": 4.0,
    }


@pytest.mark.parametrize(
    ("value", "at_least", "met"), [(2, True, True), (1.9, True, False), (1.9, False, True)]
)
def test_target(value, at_least, met):
    assert harness.target("x", value, 2, at_least=at_least)["met"] is met


def test_flags_are_those_of_the_build(tmp_path, monkeypatch):
    """As ninja has them: one edge a source, the flags below it."""
    build = tmp_path / "build" / "cp311"
    build.mkdir(parents=True)
    (build / "build.ninja").write_text(
        "build a.dir/core/src/fc.c.o: C_COMPILER /x/core/src/fc.c || order\n"
        "  FLAGS = -O1\n\n"
        "build a.dir/core/src/kernels_v9.c.o: C_COMPILER /x/core/src/kernels_v9.c || order\n"
        "  DEFINES = -DX\n"
        "  FLAGS = -O3 -mfast\n\n"
        "build lib.a: LINK a.dir/core/src/kernels_v9.c.o\n"
        "  LANGUAGE_COMPILE_FLAGS = -O9\n"
    )
    monkeypatch.setattr(harness, "ROOT", tmp_path)
    assert harness._compile_flags() == {"kernels_v9.c": "-O3 -mfast"}


def test_the_environment_tells_machine_kernels_and_commit():
    of = harness.environment()
    assert of["cpu"]
    assert of["kernels"] in harness._core.kernel_tables()
    assert of["commit"]


def test_fit_of_a_line():
    x = [1, 10, 100, 1000]
    of = growth.fit(x, [3 + 2 * value for value in x])
    assert of["a"] == pytest.approx(3)
    assert of["b"] == pytest.approx(2)
    assert of["r2"] == pytest.approx(1)
    assert of["worst"] == pytest.approx(0, abs=1e-9)
    assert of["exponent"] == pytest.approx(1, abs=0.01)  # 3 beside 200 and more


def test_fit_counts_deviations_as_shares_of_the_time():
    """Half the time at the smallest point is much of it, and nothing beside the largest."""
    x = np.array([1, 10, 100, 1000, 10_000], float)
    bent = x.copy()
    bent[0] = 0.5
    plain = np.polyval(np.polyfit(x, bent, 1), x)
    assert np.abs(plain / bent - 1).max() > 0.5
    assert growth.fit(x, bent)["worst"] < 0.1


def test_a_curve_that_is_no_line_says_so():
    x = [1, 10, 100, 1000, 10_000]
    of = growth.fit(x, [value**2 for value in x])
    assert of["worst"] > 0.5
    assert of["r2"] < 0.9
    assert of["exponent"] == pytest.approx(2)


def test_operations_of_a_shape():
    shape = growth.Shape(taps=(8, 5), n_outputs=3, rank=2, n_samples=45)
    # Forward 2 R (N + M), gx_B 2 R M, gW_B 2 R M, gW_A 2 R N.
    expected = 45 * sum(2 * 2 * (n + 3) + 2 * 2 * 3 + 2 * 2 * (n + 3) for n in (8, 5))
    assert shape.operations_an_epoch == expected
    assert shape.n_batches == 3


def test_cliffs_compare_time_an_operation_with_the_same_point_of_the_curve():
    def points(*of):
        return {"points": [{"x": x, "us": {"median": us}, "operations": n} for x, us, n in of]}

    found = growth.cliffs(
        {"rank": points((1, 1.0, 10), (4, 2.0, 40)), "outputs": points((3, 4.0, 40), (9, 9.0, 60))}
    )
    assert found == {"rank": {"1": 2.0, "4": 1.0}, "outputs": {"3": 1.0, "9": 1.5}}


def test_curves_train_on_cached_rows_alone():
    shape = growth.Shape(taps=(16, 8), n_outputs=2, rank=2, n_samples=30)
    rows, x = growth.rows_and_samples(shape)
    assert len(rows) == len(x) == 30
    assert np.isfinite(rows).all()
    assert growth.epochs_on(shape, rows, x, "batch").units == 2
    growth.epochs_on(shape, rows, x, "epoch").run()  # a row that is not cached would raise


def test_the_plain_sum_reads_the_rows_in_the_order_of_the_step(tmp_path):
    few = memory.Cached(90)
    order = few.order()
    assert sorted(order) == list(range(90))
    assert list(order[:20]) != sorted(order[:20])  # one batch
    assert list(order) == list(few.order())
    memory.check(memory.compile_sum(tmp_path), few, order)
    assert few.step(epochs=2).units == 180


def test_the_plain_sum_that_skips_a_row_is_found_out(tmp_path):
    few = memory.Cached(90)
    right = memory.compile_sum(tmp_path)

    def wrong(rows, order, count, stride, width):
        return right(rows, order, count - 1, stride, width)

    with pytest.raises(AssertionError):
        memory.check(wrong, few, few.order())


def test_within_a_point():
    assert finetuning.within([0.5, 0.8, 0.95, 0.9, 0.955, 0.96]) == 3
    assert finetuning.within([0.5]) == 1


@pytest.mark.parametrize("words", [("--rounds", "0"), ("--data", "nowhere", "--quick")])
def test_a_wrong_argument_of_a_script(words):
    done = subprocess.run(
        [sys.executable, str(BENCH / "finetuning.py"), "--rounds", "1", *words],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert words[1] in done.stderr.splitlines()[-1]


def test_an_unknown_part():
    done = subprocess.run(
        [sys.executable, str(BENCH / "run.py"), "speed"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "speed" in done.stderr.splitlines()[-1]
