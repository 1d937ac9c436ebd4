"""How soon a change is noticed without labels, and how often by mistake: docs/drift.md.

    python bench/drift.py --data ../shared/data [--trials 5] [--json]

A network is pre-trained in the quiet room anew in each trial. The reference is taken from another
day of that room (fans), or from samples of the same people that were held out (HAR); half of these
are never learned from, and 5,000 draws of them may raise no alarm. Then come the samples of the
noisy room, or of other people. Times are those of one sample, beside a prediction of one.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import skip2lora as s2
from harness import environment
from skip2lora.datasets import fan
from skip2lora.paper.protocol import TASKS, load_split, pretrained
from skip2lora.serve.drift import DriftDetector

DRAWS = 5000
Taps = list[np.ndarray]


def quiet_and_changed(task: str, seed: int, data: Path) -> tuple[s2.MLP, np.ndarray, np.ndarray]:
    """The network, samples as usual in their order, and samples after the change."""
    split = load_split(task, data)
    if task == "har":
        order = np.random.default_rng(seed).permutation(len(split.pretrain.x))
        half = len(order) // 2
        learned = order[:half]
        learn = replace(split.pretrain, x=split.pretrain.x[learned], y=split.pretrain.y[learned])
        model = pretrained(split._replace(pretrain=learn), TASKS[task], seed)
        return model, split.pretrain.x[order[half:]], split.test.x
    folder = data / "cooling-fan" if (data / "cooling-fan").is_dir() else data
    names = [f"{fan.RECORDINGS}{of}_silentA_2.zip" for of in ("normal", task)]
    quiet = fan.load_pair(*(folder / name for name in names))
    return pretrained(split, TASKS[task], seed), quiet.x, split.finetune.x


def part(of: Taps, which: np.ndarray | slice) -> Taps:
    return [np.ascontiguousarray(tap[which]) for tap in of]


def trial(task: str, seed: int, data: Path, first: int) -> dict[str, float]:
    """By the taps from number ``first`` on."""
    model, quiet_x, changed_x = quiet_and_changed(task, seed, data)
    quiet, changed = (list(model.forward(x).taps[first:]) for x in (quiet_x, changed_x))
    random = np.random.default_rng(seed)
    detector = DriftDetector(model.tap_widths[first:], learn=max(200, len(quiet_x) // 2), seed=seed)
    detector.add(part(quiet, slice(0, 2 * detector.state.learn, 2)))
    content = detector.to_bytes()
    rest = part(quiet, slice(1, 2 * detector.state.learn, 2))

    def alarms(of: Taps) -> int:
        again, count = DriftDetector.from_bytes(content), 0
        for at in range(len(of[0])):
            again.add(part(of, slice(at, at + 1)))
            if again.state.alarm:
                count += 1
                again.dismiss()
        return count

    def noticed(of: Taps) -> tuple[float, float]:
        again = DriftDetector.from_bytes(content)
        start = again.state.n_samples
        again.add(of)
        state = again.state
        return (np.inf if state.alarm_at is None else state.alarm_at - start + 1), state.novel

    shuffled, novel = noticed(part(changed, random.permutation(len(changed[0]))))
    return {
        "false_alarms_drawn": alarms(part(rest, random.integers(0, len(rest[0]), DRAWS))),
        "false_alarms_in_order": alarms(rest),
        "delay": shuffled,
        "delay_in_order": noticed(changed)[0],
        "novel": novel,
        **times(model, quiet_x, part(quiet, slice(1)), DriftDetector.from_bytes(content)),
    }


def times(model: s2.MLP, x: np.ndarray, taps: Taps, detector: DriftDetector) -> dict[str, float]:
    """Microseconds a sample: the least of 20 rounds of 100, in turn."""
    one = x[:1]
    least = {"predict_us": np.inf, "watch_us": np.inf}
    for _ in range(20):
        for name, call in (
            ("predict_us", lambda: model.predict(one)),
            ("watch_us", lambda: detector.add(taps)),
        ):
            start = time.perf_counter()
            for _ in range(100):
                call()
            least[name] = min(least[name], (time.perf_counter() - start) * 1e4)
    return {**least, "watch_over_predict": least["watch_us"] / least["predict_us"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = {
        f"{task}, {name}": [
            trial(task, seed, options.data, first) for seed in range(options.trials)
        ]
        for task in TASKS
        for name, first in (("all taps", 0), ("the last tap", -1))
    }
    if options.json:
        print(json.dumps({"environment": environment(), "results": results}))
        return
    print(f"commit {environment()['commit']}, {options.trials} trials: least, median, most")
    for task, trials in results.items():
        print(task)
        for name in trials[0]:
            each = [of[name] for of in trials]
            print(f"  {name:22} {min(each):8.3g} {np.median(each):8.3g} {max(each):8.3g}")


if __name__ == "__main__":
    main()
