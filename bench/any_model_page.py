"""Makes docs/any-model.md from any_model.json; measures nothing.

python bench/any_model_page.py
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from text import number, percent, table, write_text

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "bench" / "any_model.json", ROOT / "docs" / "any-model.md"
HOW = """\
`adapt` on pretrained models, each with samples unlike those it was made for: by steps with the
defaults for any model (16 taps on a 4 x 4 grid, scaled; rank 4, Adam 0.001, 50 epochs, batches of
20), and with `recipe="auto"`, which has nothing to set. Both are the same everywhere; nothing was
tuned for a model. Each seed splits the samples anew into those to adapt to and those to test on,
and starts the adapters of the steps. All read the same rows.

*Last layer* is the same training by steps with one tap, the input of the last layer, so LoRA on
the last layer alone; *unscaled* is the same without scaling. *Logistic* is scikit-learn's
multinomial logistic regression, its C by 4 folds, *ridge* its ridge classifier, the penalty by
leave-one-out, both of the strengths that auto tries, on the scaled columns of the last tap or of
all. *None* is the model as it is: 0 where the classes are new to it. These come beside its own
outputs, which an answer may then be, or *instead* of them (`keep_outputs=False`).

[How auto's own fits were chosen](decisions/0017-what-auto-mixes.md) says what was known of the
tests then.
"""
ERROR = """\
*Below* means that the mean of the differences by seed lies under 0 by more than its standard
error. *Held out* is what `adapt` printed before a test sample was looked at, its interval Wilson's
with z 2.25; samples of a split are drawn by chance, and so are fair to folds. Those of activities
are not: they are neighbours in one recording, and the tests come from others. Where samples are
few, all but a fold, the tenth of up to 100, teach less than all, and what is told is too low.
"""
PEERS = (
    "none", "last_layer", "last_layer_unscaled", "logistic_last", "ridge_last", "logistic_all",
    "ridge_all", "skip2_lora",
)  # fmt: skip
NAMES = (
    "none", "last layer", "last layer, unscaled", "logistic, last tap", "ridge, last tap",
    "logistic, all taps", "ridge, all taps", "by steps", "**auto**",
)  # fmt: skip
ENOUGH = 90  # samples, of which all but a fold teach nearly what all do
ONE_RECORDING = ("activities_3s", "activities_10s")  # of each class: nothing tells of others
PREDICTION = """\
Time a sample beside the plain model in the same runtime, in turn; by how much longer it takes in
the median of the rounds (smallest to largest). One sample at a time; 64 at once for a PyTorch
module, whose hooks cost some 0.3 ms a call. *With taps* gives the rows to train on, from Python;
*exported* is one ONNX file with adapters inside.
"""
AGAIN = """\
To measure again (weights and data of about 550 MB are fetched once, recordings of speech by
Debian's apt-get; HAR is not: `SKIP2LORA_DATA` names the folder of [its data](paper.md)):

<!-- skip: next "needs 550 MB of weights and data" -->
```sh
pip install -e . --group models
python bench/models/fetch.py
python bench/any_model.py
```
"""


def mean(values: Sequence[float]) -> str:
    return percent(statistics.mean(values))


def accuracies(results: Mapping[str, Any]) -> list[str]:
    rows = []
    for of in results.values():
        got = of["accuracy"]
        ours = got["auto"]
        rows.append([
            of["title"], of["modality"], "own" if of["own_labels"] else "new",
            f"{of['n_samples']} / {of['n_test']}", *(mean(got[peer]) for peer in PEERS),
            f"**{mean(ours)}** ({percent(min(ours))[:-2]} to {percent(max(ours))[:-2]})",
        ])  # fmt: skip
    head = ("model", "data", "labels", "samples / tests", *NAMES[:-1], "**auto** (of the seeds)")
    return table(head, rows)


def paired(of: Mapping[str, Any], peer: str) -> tuple[float, float]:
    """By how much auto is better than a peer, in the mean of the seeds, and its standard error."""
    ours, theirs = of["accuracy"]["auto"], of["accuracy"][peer]
    differences = [own - other for own, other in zip(ours, theirs, strict=True)]
    deviation = statistics.stdev(differences) if len(differences) > 1 else 0.0
    return statistics.mean(differences), deviation / len(differences) ** 0.5


def gains(results: Mapping[str, Any]) -> list[str]:
    rows = []
    for of in results.values():
        told = [paired(of, peer) for peer in PEERS[1:]]
        rows.append([
            of["title"], *(f"{100 * gain:+.1f} \u00b1 {100 * error:.1f}" for gain, error in told),
        ])  # fmt: skip
    return table(("auto less", *NAMES[1:-1]), rows)


def held_out(results: Mapping[str, Any]) -> list[str]:
    """What was said of held-out samples beside the accuracy on the tests."""
    rows = []
    for of in results.values():
        said = [value for value, _, _ in of["held_out"]]
        inside = _inside(of)
        rows.append([
            of["title"], mean(said), mean(of["accuracy"]["auto"]),
            f"{100 * (statistics.mean(said) - statistics.mean(of['accuracy']['auto'])):+.1f}",
            f"{sum(inside)} of {len(inside)}",
        ])  # fmt: skip
    return table(("model", "held out", "on the tests", "points too high", "inside"), rows)


def _inside(of: Mapping[str, Any]) -> list[bool]:
    """Whether the interval that was said holds the accuracy on the tests, by seed."""
    pairs = zip(of["held_out"], of["accuracy"]["auto"], strict=True)
    return [low <= accuracy <= high for (_, low, high), accuracy in pairs]


def summary(results: Mapping[str, Any]) -> list[str]:
    below = []
    for of in results.values():
        for peer, name in zip(PEERS, NAMES, strict=False):
            gain, error = paired(of, peer)
            if gain < -error:
                below.append(f"{of['title']} ({name})")
    gain = statistics.mean(paired(of, "skip2_lora")[0] for of in results.values())
    off = {
        name: statistics.mean(value for value, _, _ in of["held_out"])
        - statistics.mean(of["accuracy"]["auto"])
        for name, of in results.items()
    }
    many = [of for name, of in off.items() if results[name]["n_samples"] >= ENOUGH]
    inside = {name: _inside(of) for name, of in results.items()}
    every = [one for of in inside.values() for one in of]
    fair = [one for name, of in inside.items() for one in of if name not in ONE_RECORDING]
    where = f"on: {', '.join(below)}" if below else "nowhere"
    return [
        f"Auto is below any of the others {where}.",
        f"In the mean over the models it is {100 * gain:.1f} points above training by steps.",
        f"What it says of held-out samples is {100 * statistics.mean(off.values()):+.1f} points "
        f"off the tests in the mean ({100 * statistics.mean(many):+.1f} with {ENOUGH} samples or "
        f"more), and the interval holds them in {sum(every)} of {len(every)} cases, in "
        f"{sum(fair)} of {len(fair)} without activities.",
    ]


def costs(results: Mapping[str, Any]) -> list[str]:
    rows = [
        (of["title"], f"{of['n_taps']} of {of['n_layers']}", f"{sum(of['widths']):,}",
         f"{of['cache_bytes_per_sample']:,}", f"{of['parameters']:,}",
         f"{of['auto_parameters']:,}", f"{number(of['cache_fill_ms'] / 1000)} s",
         f"{number(of['training_ms'] / 1000)} s", f"{number(of['auto_ms'] / 1000)} s")
        for of in results.values()
    ]  # fmt: skip
    return table(
        ("model", "taps", "their width", "cache, bytes a sample", "trained numbers",
         "of auto", "cache fill", "by steps", "auto"), rows,
    )  # fmt: skip


def predictions(results: Mapping[str, Any]) -> list[str]:
    rows = []
    for of in results.values():
        cost = of["prediction"]
        sides = (more(cost["ratio"].get(side)) for side in ("tapped", "exported"))
        rows.append([of["title"], f"{number(cost['ms']['plain']['median'])} ms", *sides])
    return table(("model", "a prediction", "with taps", "exported with adapters"), rows)


def more(ratio: Mapping[str, float] | None) -> str:
    """By how much a side takes longer than the plain model, median and range."""
    if ratio is None:
        return ""
    median, *ends = (100 * (ratio[name] - 1) for name in ("median", "smallest", "largest"))
    return f"{median:+.1f} % ({ends[0]:+.0f} to {ends[1]:+.0f})"


def machine(results: Mapping[str, Any]) -> list[str]:
    """One line for each way the models were measured."""
    told: dict[str, list[str]] = {}
    commits = sorted({of["accuracy_commit"] for of in results.values()})
    for of in results.values():
        at, libraries = of["environment"], of["libraries"]
        versions = ", ".join(f"{name} {version}" for name, version in libraries.items())
        line = f"{at['cpu']}, one thread, kernel table {at['kernels']}, commit {at['commit']}"
        told.setdefault(f"{line}; {versions}", []).append(of["title"])
    first = f"Accuracy of commit {', '.join(commits)}. "
    if len(told) == 1:
        return [f"{first}Predictions were timed on: {next(iter(told))}.", ""]
    lines = (f"- {', '.join(names)}: {line}" for line, names in told.items())
    return [f"{first}Predictions were timed on:", "", *lines, ""]


def page(results: Mapping[str, Any]) -> str:
    results = {name: of for name, of in results.items() if "auto" in of["accuracy"]}
    seeds = max(len(of["accuracy"]["none"]) for of in results.values())
    lines = [
        "# Any model: accuracy and cost", "",
        "<!-- Made by bench/any_model_page.py from bench/any_model.json. -->", "",
        HOW, f"## Accuracy, mean of {seeds} seeds", "", *accuracies(results),
        "Every model that was tried is listed.", *summary(results), "",
        "By seed, in points, with the standard error of the pairs:", "", *gains(results),
        *held_out(results), ERROR,
        "## Models and data", "",
        *(f"- **{of['title']}**: {of['model']}; {of['task']}." for of in results.values()), "",
        "## Cost", "",
        "Of all samples to adapt to; times are of one CPU, the median of the seeds.", "",
        *costs(results), PREDICTION, *predictions(results), *machine(results), AGAIN,
    ]  # fmt: skip
    return "\n".join(lines)


def write(results: Mapping[str, Any], file: Path = PAGE) -> None:
    write_text(file, page(results))


if __name__ == "__main__":
    write(json.loads(RESULTS.read_text(encoding="utf-8")))
