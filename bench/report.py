"""Makes docs/performance.md and its figure from results.json; measures nothing.

python bench/report.py [RESULTS] [--docs DIR]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import figure
from exact_page import exact, primal
from text import number, percent, spread, table, write_text

ROOT = Path(__file__).resolve().parents[1]
PAGE, FIGURE = "performance.md", "performance-growth.svg"

Results = Mapping[str, Any]


# ---- sections ----------------------------------------------------------------------------------


def machine(results: Results) -> list[str]:
    """The environment of the first part, and those that were measured elsewhere or later."""
    parts = {name: of["environment"] for name, of in results.items() if "environment" in of}
    if not parts:
        return []
    first = next(iter(parts.values()))
    made = table(
        ("", ""),
        [
            ("processor", f"{first['cpu']} ({' '.join(first['cpu_flags'])})"),
            ("kernel table", first["kernels"]),
            ("compiler", first["compiler"]),
            *((f"`{source}`", f"`{flags}`") for source, flags in first["flags"].items()),
            ("transparent huge pages", f"`{first['huge_pages']}`"),
            ("commit", first["commit"]),
            ("libraries", ", ".join(f"{k} {v}" for k, v in _versions(results).items())),
            ("load before each part", ", ".join(f"{n} {of['load']}" for n, of in parts.items())),
        ],
    )
    same = ("cpu", "kernels", "compiler", "flags", "commit")
    for name, of in parts.items():
        differs = [key for key in same if of[key] != first[key]]
        if differs:
            told = ", ".join(key if key == "flags" else f"{key} {of[key]}" for key in differs)
            made += [f"**{name} was measured with another {told}.**", ""]
    if any(of.get("quick") for of in results.values()):
        made += ["**A quick run: these numbers are noise.**", ""]
    return made


def _versions(results: Results) -> dict[str, str]:
    found: dict[str, str] = {}
    for of in results.values():
        found |= of.get("versions", {})
    return found


def targets(results: Results) -> list[str]:
    rows = [
        (
            of["what"],
            number(of["measured"]),
            f"{'at least' if of['at_least'] else 'at most'} {of['limit']:g}",
            "yes" if of["met"] else "**no**",
        )
        for part in results.values()
        for of in part.get("targets", ())
    ]
    return ["## Targets", "", *table(("", "measured (median)", "target", "met"), rows)]


def peers(of: Results) -> list[str]:
    made = ["## A batch beside peers", "", "Microseconds a batch of 20, rank 4.", ""]
    nets = of["nets"]
    sides = list(next(iter(nets.values()))["us_a_batch"])
    rows = [[side, *(spread(net["us_a_batch"][side]) for net in nets.values())] for side in sides]
    made += table(("side", *nets), rows)
    made += ["How many times longer the one side takes than the other, round by round:", ""]
    pairs = list(next(iter(nets.values()))["ratios"])
    rows = [[pair, *(spread(net["ratios"][pair]) for net in nets.values())] for pair in pairs]
    made += table(("", *nets), rows)
    made += [f"Threads: {threads(of['threads'])}.", ""]
    task = of["accuracy"]
    made += [
        f"Test accuracy on the {task['task']} after {task['epochs']} epochs at learning rate 0.01, "
        f"median of {task['seeds']} seeds (smallest to largest):",
        "",
        *table(("", "%"), ((name, spread(s, 100)) for name, s in task["accuracy"].items())),
    ]
    return made


def threads(of: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{side} {n['threads']} ({n['name']})" if isinstance(n, Mapping) else f"{side} {n}"
        for side, n in of.items()
    )


def methods(of: Results) -> list[str]:
    made = [
        "## Every method",
        "",
        "`skip2lora bench`: random samples, batch of 20, rank 4. Operations are those of Table 1's "
        "compute types, so that batch norm, ReLU, loss and update count as time alone.",
        "",
    ]
    for name, net in of["nets"].items():
        rows = [
            (
                f"`{method}`",
                spread(t["us_a_batch"]),
                number(t["operations"] / 1000),
                number(t["gflops"]),
                percent(t["share_of_peak"]),
            )
            for method, t in net["methods"].items()
        ]
        columns = ("", "us a batch", "kFLOP a batch", "GFLOP/s", "of peak")
        fill = net["cache_fill_ms"]
        made += [
            f"{name}, {net['n_samples']:,} samples; multiply-add peak of one core "
            f"{spread(net['peak_gflops'])} GFLOP/s:",
            "",
            *table(columns, rows),
            f"Cache fill {spread(fill)} ms, {number(1e3 * fill['median'] / net['n_samples'])} us a "
            f"sample, for {net['cache_bytes'] / 1024:,.0f} KiB. `predict` of the adapted model: "
            f"one sample a call {spread(net['predict_us'])} us, all in one call "
            f"{spread(net['predict_batched_us'])} us a sample.",
            "",
        ]
    return made


def finetuning(of: Results) -> list[str]:
    rows = []
    for name, net in of["nets"].items():
        sides = (("lora-all", "LoRA-All"), ("skip2-lora", "Skip2-LoRA"))
        for side, title in sides:
            rows.append(
                (name, net["n_samples"], net["epochs"], title, spread(net["ms"][side]),
                 number(net["gflops"][side]))
            )  # fmt: skip
    made = [
        "## Whole fine-tunings",
        "",
        *table(("network", "samples", "epochs", "", "ms", "GFLOP/s"), rows),
    ]
    for name, net in of["nets"].items():
        of_ = net["reduction"]
        made.append(
            f"- {name}: {percent(of_['median'])} less time ({percent(of_['smallest'])} to "
            f"{percent(of_['largest'])}); operations alone allow "
            f"{percent(net['reduction_by_operations'])} at equal GFLOP/s."
        )
    door = of["front_door"]
    made += [
        "",
        f"`adapt` on the {door['task']}, {door['n_samples']} samples, {door['epochs']} epochs, one "
        f"network a seed ({door['seeds']}): {spread(door['adapt_ms'])} ms. Test accuracy "
        f"{percent(door['accuracy_before']['median'])} before and "
        f"{percent(door['accuracy_after']['median'])} after. Within a point of that after "
        f"{spread(door['within_a_point_epochs'])} epochs, {spread(door['within_a_point_ms'])} ms.",
        "",
        "Standardised taps and Adam at 0.003 are the quickest way: from checked samples, fill "
        f"included, {spread(door['quick_ms'])} ms and {spread(door['quick_epochs'])} epochs to "
        f"within a point of {percent(door['quick_accuracy']['median'])}.",
        "",
    ]
    return made


def fc(of: Results) -> list[str]:
    rows = [
        (
            row["layer"], row["batch"], row["product"], spread(row["us"]["ours"]),
            spread(row["us"]["openblas"]), number(row["gflops"]["ours"]),
            number(row["gflops"]["openblas"]), spread(row["ratio"]),
        )
        for row in of["rows"]
    ]  # fmt: skip
    columns = (
        "layer", "batch", "product", "us", "us, NumPy", "GFLOP/s", "GFLOP/s, NumPy",
        "rate over NumPy's",
    )  # fmt: skip
    return [
        "## FC kernels beside OpenBLAS",
        "",
        f"NumPy's BLAS: {of['threads']['numpy']['name']}, {of['threads']['numpy']['threads']} "
        f"thread. Multiply-add peak of one core {spread(of['peak_gflops'])} GFLOP/s.",
        "",
        *table(columns, rows),
    ]


def memory(of: Results) -> list[str]:
    return [
        "## Rows beyond the cache of the processor",
        "",
        f"{of['n_rows']:,} rows of {of['row_floats']} floats, {of['bytes'] / 1e9:.2f} GB, "
        f"{percent(of['huge_page_share'])} of it on huge pages.",
        "",
        *table(("", "ns a row"), ((name, spread(ns)) for name, ns in of["ns_a_row"].items())),
        f"The step takes {spread(of['ratio'])} times the plain sum's time in the same order.",
        "",
    ]


def growth(of: Results) -> list[str]:
    curves = of["curves"]
    rows = []
    for curve in curves.values():
        f, first, last = curve["fit"], curve["points"][0], curve["points"][-1]
        rows.append(
            (curve["title"], f"{first['x']:,} to {last['x']:,}",
             f"{number(first['us']['median'])} to {number(last['us']['median'])}",
             f"us a {curve['unit']}".replace("a epoch", "an epoch"),
             f"{f['a']:.3g} + {f['b']:.3g} x", f"{f['r2']:.4f}", percent(f["worst"]),
             f"{f['exponent']:.2f}")
        )  # fmt: skip
    columns = ("", "x", "time", "", "fit", "R2", "largest deviation", "exponent")
    made = [
        "## Growth",
        "",
        f"![time against each variable, with the fitted line]({FIGURE})",
        "",
        "One variable at a time around 256-96-96-3 (470 samples, rank 4, batch 20), cached rows.",
        "",
        *table(columns, rows),
        "The line has the smallest relative deviations. Many samples or a wide tap leave one cache "
        "of the processor after the other, which bends the points upwards. The exponent is the "
        "slope of log time over log x in the last decade: 1 is linear, less a fixed part that "
        "still counts.",
        "",
        "Time an operation over that at rank 4 and 3 outputs (the softmax is time, but no counted "
        "operation):",
        "",
    ]
    for name, ratios in of["time_an_operation"].items():
        made += table((name, *ratios), [("", *(number(ratio) for ratio in ratios.values()))])
    return made


def footprint(of: Results) -> list[str]:
    return [
        "## Footprint",
        "",
        f"`import skip2lora` takes {spread(of['import_s'])} s. `adapt` on 470 samples adds "
        f"{spread(of['peak_beyond_cache_bytes'], 1 / 1024)} KiB to the peak memory beyond "
        f"interpreter, data and the cache of {of['cache_bytes'] / 1024:,.0f} KiB.",
        "",
    ]


def compilers(of: Results) -> list[str]:
    rows = [
        (row["net"], row["kernels"], *map(spread, row["us_a_batch"].values()), spread(row["ratio"]))
        for row in of["rows"]
    ]
    first, second = of["compilers"]
    columns = ("network", "kernels", f"{first}, us", f"{second}, us", f"{second} over {first}")
    return [
        "## The core by each compiler",
        "",
        "A batch of Skip2-LoRA on cached rows, in C alone, with the flags of `core/Makefile`, as "
        "time on the processor: "
        f"{' and '.join(of['compilers'].values())}.",
        "",
        *table(columns, rows),
    ]


def arm(of: Results) -> list[str]:
    rows = [
        (
            row["machine"], row["kernels"], row["net"], f"`{row['method']}`",
            f"{row['instructions']:,}",
            f"{row['estimated_cortex_a53_cycles']:,}"
            if "estimated_cortex_a53_cycles" in row else "-",
        )
        for row in of["rows"]
    ]  # fmt: skip
    columns = ("", "kernels", "network", "method", "instructions", "Cortex-A53 cycles, estimated")
    return [
        "## ARM",
        "",
        f"A batch of {of['batch_size']} of each method, rank {of['rank']}, and a prediction of one "
        f"sample by network and skip adapters, commit {of['commit']}. Instructions are counted "
        f"under {of['qemu']}; they are exact and are not time: on a Cortex-M4F -Os multiplies and "
        "adds by VMLA, which takes 3 cycles there, -O2 by two instructions, which take 2. Cycles "
        "are an estimate of llvm-mca, with every load in the first cache: nothing here was "
        "measured on a device. The paper did "
        "measure one: a batch of its Skip2-LoRA takes 0.450 ms (256-96-96-3) and 0.595 ms "
        "(561-96-96-6) on a Raspberry Pi Zero 2 W with a Cortex-A53 at 1 GHz. Those are times, "
        "these are counts: neither is the other.",
        "",
        *table(columns, rows),
    ]


def any_module(of: Results) -> list[str]:
    nets = of["networks"]
    taps = "; ".join(
        f"{name}: {len(net['tap_widths'])} taps of width {min(net['tap_widths'])} to "
        f"{max(net['tap_widths'])}"
        for name, net in nets.items()
    )
    told = {
        "cache fill": "cache_fill_s", "training": "training_s", "both": "total_s",
        "PEFT LoRA on every layer": "peft_s",
    }  # fmt: skip
    ratios = {"PEFT / training": "ratio", "PEFT / both": "ratio_with_fill"}
    return [
        "## Any PyTorch module beside PEFT",
        "",
        f"Seconds to adapt to {of['samples']} samples in {of['epochs']} epochs, rank 4, Adam, "
        "batches of 20. One epoch of PEFT is measured and counted "
        f"{of['epochs']} times. {taps}. Threads: {threads(of['threads'])}.",
        "",
        *table(("", *nets), ((n, *(spread(net[key]) for net in nets.values()))
                             for n, key in (told | ratios).items())),
    ]  # fmt: skip


SECTIONS = {
    "methods": methods,
    "peers": peers,
    "any_module": any_module,
    "finetuning": finetuning,
    "exact": exact,
    "primal": primal,
    "fc": fc,
    "memory": memory,
    "growth": growth,
    "footprint": footprint,
    "compilers": compilers,
    "arm": arm,
}

HEAD = """# Performance

Made by `make bench` from `bench/results.json`; not written by hand.

Every number is the median of {rounds} rounds with the smallest and the largest in brackets. What
is compared is measured in one process, in turn (A B A B), after a warm-up, with one thread each. A
time a batch is that of whole epochs over their batches: drawing the order, gathering the samples,
forward, loss, backward and update, on both sides. Skip2-LoRA's batch is one on rows in the cache;
the fill is shown by itself, and whole fine-tunings include it. Ratios are formed round by round.

## Machine
"""


def page(results: Results) -> str:
    """The whole page; parts that were not measured are left out."""
    rounds = sorted({of["rounds"] for of in results.values() if "rounds" in of})
    made = [HEAD.format(rounds=" or ".join(map(str, rounds))), *machine(results)]
    made += targets(results)
    for name, section in SECTIONS.items():
        if name in results:
            made += section(results[name])
    return "\n".join(made).rstrip() + "\n"


def summary(results: Results) -> list[str]:
    """The targets for a terminal."""
    return [
        f"{'met   ' if of['met'] else 'MISSED'} {of['what']}: {number(of['measured'])}, target "
        f"{'at least' if of['at_least'] else 'at most'} {of['limit']:g}"
        for part in results.values()
        for of in part.get("targets", ())
    ]


# ---- files -------------------------------------------------------------------------------------


def write(results: Results, docs: Path) -> None:
    """The page, and the figure where there are curves."""
    if "growth" in results:
        figure.draw(results["growth"], docs / FIGURE)
    write_text(docs / PAGE, page(results))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=ROOT / "bench" / "results.json")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    arguments = parser.parse_args()
    try:
        results = json.loads(arguments.results.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        parser.error(f"cannot read {arguments.results} ({error}): make it with `make bench`")
    write(results, arguments.docs)


if __name__ == "__main__":
    main()
