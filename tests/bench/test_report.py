"""The page from results, without measuring."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import report
import text

MACHINE = {
    "cpu": "Test CPU", "cpu_flags": ["fma"], "kernels": "scalar", "compiler": "cc 1",
    "flags": {"kernels_scalar.c": "-O3"}, "huge_pages": "never", "commit": "abc1234", "load": 0.1,
}  # fmt: skip


def spread(median):
    return {"median": median, "smallest": median * 0.9, "largest": median * 1.2}


def part(**of):
    return {"environment": MACHINE, "rounds": 5, "threads": {"skip2lora": 1}, **of}


def target(measured, *, met):
    return {"what": "speed", "measured": measured, "limit": 2, "at_least": True, "met": met}


@pytest.fixture
def results():
    method = {
        "us_a_batch": spread(3.25), "operations": 224000, "gflops": 69.0, "share_of_peak": 0.83,
    }  # fmt: skip
    points = [{"x": x, "us": spread(1.0 + x), "operations": 10 * x} for x in (1, 10, 100)]
    curve = {
        "title": "rank", "unit": "batch", "points": points,
        "fit": {"a": 1.0, "b": 1.0, "r2": 1.0, "worst": 0.015, "exponent": 0.99},
    }  # fmt: skip
    return {
        "methods": part(
            nets={
                "256-96-96-3": {
                    "n_samples": 470, "peak_gflops": spread(83.0), "methods": {"ft-all": method},
                    "cache_fill_ms": spread(0.47), "cache_bytes": 366600, "predict_us": spread(41),
                    "predict_batched_us": spread(2.5),
                }
            }
        ),
        "peers": part(
            versions={"torch": "9.9"},
            threads={"torch": 1, "numpy": {"name": "openblas 1", "threads": 1}},
            nets={
                "256-96-96-3": {
                    "us_a_batch": {"skip2-lora": spread(3.25), "torch lora-all": spread(650)},
                    "ratios": {"torch lora-all / skip2-lora": spread(200)},
                }
            },
            accuracy={
                "task": "simulated fan", "epochs": 300, "seeds": 3,
                "accuracy": {"skip2-lora": spread(0.8)},
            },
            targets=[target(3.25, met=True), target(1.5, met=False)],
        ),
        "finetuning": part(
            nets={
                "256-96-96-3": {
                    "epochs": 300, "n_samples": 470,
                    "ms": {"lora-all": spread(250.0), "skip2-lora": spread(23.4)},
                    "gflops": {"lora-all": 57.0, "skip2-lora": 68.0}, "reduction": spread(0.75),
                    "reduction_by_operations": 0.9244,
                }
            },
            front_door={
                "task": "simulated fan", "n_samples": 470, "epochs": 300, "seeds": 5,
                "adapt_ms": spread(25.0), "within_a_point_ms": spread(13.0),
                "within_a_point_epochs": spread(152), "accuracy_before": spread(0.5),
                "accuracy_after": spread(0.8), "quick_ms": spread(0.95), "quick_epochs": spread(6),
                "quick_accuracy": spread(0.993),
            },
        ),
        "exact": part(
            shapes=[
                {
                    "shape": "fan, 470 x 448 x 3", "rows": "random",
                    "ms": {"core": spread(11.5), "sklearn": spread(248.0)}, "ratio": spread(21.6),
                }
            ],
        ),
        "primal": part(
            ridge_samples=500, ridge_changes=1000,
            fits=[
                {
                    "shape": [2000, 64, 3], "ms": 11.5, "sklearn_ms": 248.0, "ratio": 21.6,
                    "sklearn_excess": 0.003,
                }
            ],
            ridge=[
                {
                    "penalty": 0.001, "factorize_ms": 2.9, "leave_one_out_ms": 3.6,
                    "append_ms": 0.016, "remove_ms": 0.16, "drift": 3e-6,
                }
            ],
        ),
        "fc": part(
            threads={"numpy": {"name": "openblas 1", "threads": 1}}, peak_gflops=spread(83.0),
            rows=[
                {
                    "layer": "256x96", "batch": 20, "product": "gw",
                    "us": {"ours": spread(8.5), "openblas": spread(9.3)},
                    "gflops": {"ours": 115.7, "openblas": 105.7}, "ratio": spread(1.09),
                }
            ],
        ),
        "memory": part(
            n_rows=1000000, row_floats=448, bytes=1856000000, huge_page_share=1.0,
            ns_a_row={"step, random order": spread(190), "plain sum, random order": spread(290)},
            ratio=spread(0.66),
        ),
        "any_module": part(
            samples=500, epochs=50,
            networks={
                "CNN": {
                    "tap_widths": [48, 1024], "training_s": spread(0.35), "cache_fill_s": spread(1),
                    "total_s": spread(1.4), "peft_s": spread(650), "ratio": spread(1857),
                    "ratio_with_fill": spread(464),
                }
            },
        ),
        "growth": part(curves={"rank": curve}, time_an_operation={"rank": {"1": 2.2, "4": 1.0}}),
        "footprint": part(
            import_s=spread(0.12), peak_beyond_cache_bytes=spread(157696), cache_bytes=366600
        ),
        "compilers": part(
            compilers={"gcc": "gcc 12", "clang": "clang 14"},
            rows=[
                {
                    "net": "256-96-96-3", "kernels": "scalar",
                    "us_a_batch": {"gcc": spread(40.0), "clang": spread(50.0)},
                    "ratio": spread(1.25),
                }
            ],
        ),
        "arm": {
            "commit": "abc1234", "qemu": "qemu 7.2", "batch_size": 20, "rank": 4,
            "rows": [
                {
                    "machine": "aarch64", "kernels": "neon", "net": "256-96-96-3",
                    "method": "skip2-lora", "instructions": 33000,
                    "estimated_cortex_a53_cycles": 45000,
                },
                {
                    "machine": "armv7", "kernels": "neon", "net": "256-96-96-3",
                    "method": "skip2-lora", "instructions": 39000,
                },
            ],
        },
    }  # fmt: skip


def test_every_section_shows_its_numbers(results):
    page = report.page(results)
    for words in (
        "2 taps of width 48 to 1024", "| PEFT LoRA on every layer | 650 (585 to 780) |",
        "| PEFT / training | 1,857 (1,671 to 2,228) |", "Test CPU", "abc1234",
        "`-O3`", "torch 9.9", "median of 5 rounds",
        "| speed | 3.25 | at least 2 | yes |", "| speed | 1.5 | at least 2 | **no** |",
        "| `ft-all` | 3.25 (2.93 to 3.9) | 224 | 69 | 83.0 % |",
        "| torch lora-all | 650 (585 to 780) |", "200 (180 to 240)", "openblas 1",
        "| 256-96-96-3 | 470 | 300 | Skip2-LoRA | 23.4 (21.1 to 28.1) | 68 |",
        "75.0 % less time", "92.4 %", "25 (22.5 to 30) ms",
        "| fan, 470 x 448 x 3 | random | 11.5 (10.3 to 13.8) | 248 (223 to 298) |",
        "0.95 (0.855 to 1.14) ms and 6 (5.4 to 7.2) epochs to within a point of 99.3 %",
        "| 2,000 x 64 x 3 | 11.5 | 248 | 21.6 | 0.003 |",
        "| 0.001 | 2.9 | 3.6 | 0.016 | 0.16 | 3e-06 |",
        "| 256x96 | 20 | gw | 8.5 (7.65 to 10.2) | 9.3 (8.37 to 11.2) | 116 | 106 |",
        "1,000,000 rows of 448 floats, 1.86 GB", "0.66 (0.594 to 0.792) times",
        "| rank | 1 to 100 | 2 to 101 | us a batch | 1 + 1 x | 1.0000 | 1.5 % | 0.99 |",
        "154 (139 to 185) KiB", "| aarch64 | neon | 256-96-96-3 | `skip2-lora` | 33,000 | 45,000 |",
        "39,000 | - |", "gcc 12 and clang 14",
        "| scalar | 40 (36 to 48) | 50 (45 to 60) | 1.25 (1.12 to 1.5) |",
    ):  # fmt: skip
        assert words in page, words
    for line in page.splitlines():
        assert "nan" not in line
        assert not line.endswith(" ")


def test_parts_that_were_not_measured_are_left_out(results):
    for name in list(results):
        alone = report.page({name: results[name]})
        assert alone.count("\n## ") <= 3
    without = report.page({name: of for name, of in results.items() if name != "arm"})
    assert "## ARM" not in without


def test_a_part_of_another_commit_is_named(results):
    assert "measured with another" not in report.page(results)
    other = MACHINE | {"commit": "def5678"}
    results["fc"] = results["fc"] | {"environment": other}
    assert "**fc was measured with another commit def5678.**" in report.page(results)


def test_a_quick_run_says_so(results):
    assert "noise" not in report.page(results)
    results["growth"] = results["growth"] | {"quick": True}
    assert "these numbers are noise" in report.page(results)


def test_the_page_and_its_figure_are_written_and_repeat(results, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install '.[plot]'")
    report.write(results, tmp_path)
    figure = (tmp_path / report.FIGURE).read_text()
    assert figure.lstrip().startswith("<?xml")
    assert "rank" in figure
    assert report.FIGURE in (tmp_path / report.PAGE).read_text()
    report.write(results, tmp_path)
    assert (tmp_path / report.FIGURE).read_text() == figure
    assert sorted(path.name for path in tmp_path.iterdir()) == [report.FIGURE, report.PAGE]


def test_results_are_kept_whole(results):
    assert json.loads(text.compact(results)) == results


def test_no_results(tmp_path):
    script = str(Path(report.__file__))
    done = subprocess.run(
        [sys.executable, script, str(tmp_path / "none.json")], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "make bench" in done.stderr
