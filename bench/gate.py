"""How often the gate adopts what is harmful, and refuses what helps: docs/gate.md.

    python bench/gate.py --data ../shared/data [--trials 5] [--json]

A network is pre-trained in the quiet room anew in each trial; labels come from a recording of the
noisy room, some of them wrong: at random, or of two classes swapped. The candidate learns all
labels there are. Harmful is a candidate whose accuracy on another recording of that room is a point
or more below that of what is in use, helpful one a point or more above.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

import skip2lora as s2
from harness import environment
from skip2lora.data.samples import LabelledSamples
from skip2lora.paper.protocol import TASKS, load_split, pretrained
from skip2lora.serve.gate import verdict

N_OLD, COUNTS = 40, (20, 40, 80, 160)
WRONG = (("none", 0.0), ("random", 0.1), ("random", 0.3), ("random", 0.5), ("swapped", 0.5))
Model = s2.MLP | s2.AdaptedModel


def places(model: Model, x: np.ndarray) -> np.ndarray:
    return model.logits(x).argmax(axis=1)


def accuracy(model: Model, of: LabelledSamples) -> float:
    return float(100 * (places(model, of.x) == of.labels).mean())


def spoilt(y: np.ndarray, how: str, share: float, random: np.random.Generator) -> np.ndarray:
    """Labels of which a share is wrong: another class at random, or of two classes the other."""
    y = y.copy()
    if how == "random":
        wrong = random.random(len(y)) < share
        y[wrong] = (y[wrong] + random.integers(1, 3, wrong.sum())) % 3
    elif how == "swapped":
        one, other = random.choice(3, 2, replace=False)
        of = [(y == label) & (random.random(len(y)) < share) for label in (one, other)]
        y[of[0]], y[of[1]] = other, one
    return y


def judged(
    used: Model, model: s2.MLP, x: np.ndarray, y: np.ndarray, n_old: int, test: LabelledSamples
) -> dict[str, str]:
    """Adopted or refused, and what the candidate is worth, by whose answers are in use.

    To labels that an adapter has learned it answers as it learned them, or as held out.
    """
    candidate = s2.adapt(model, x, y, solver="exact")
    answers, old = candidate.fit.answers, np.arange(len(y)) < n_old
    gain = accuracy(candidate, test) - accuracy(used, test)
    worth = "helpful" if gain >= 1 else "harmful" if gain <= -1 else "equal"
    now = {"base": places(used, x)}
    if n_old:  # some of which it has learned
        held = used.fit.answers
        now = {"adapter, learned": now["base"], "adapter, held out": now["base"].copy()}
        now["adapter, held out"][held.row] = held.logits.argmax(axis=1)
    results = {}
    for name, each in now.items():
        adopt = False  # where of some class there are too few to hold any out
        if answers is not None:
            row, then = answers.row, answers.logits.argmax(axis=1)
            known = old[row] if n_old else None
            adopt = verdict(y[row], each[row], then, old=known, first=n_old == 0).adopt
        results[name] = f"{worth} {'adopted' if adopt else 'refused'}"
    return results


def trial(task: str, seed: int, data: Path) -> dict[str, str]:
    split = load_split(task, data)
    model = pretrained(split, TASKS[task], seed)
    random = np.random.default_rng([seed, len(task)])
    order = random.permutation(len(split.finetune.x))
    x, y = split.finetune.x[order], split.finetune.labels[order]
    good = s2.adapt(model, x[:N_OLD], y[:N_OLD], solver="exact")
    results = {}
    for how, share in WRONG:
        for count in COUNTS:
            new = spoilt(y[N_OLD : N_OLD + count], how, share, random)
            for used, labels in ((model, new), (good, np.append(y[:N_OLD], new))):
                n_old = len(labels) - len(new)
                samples = x[N_OLD - n_old : N_OLD + count]
                worth = judged(used, model, samples, labels, n_old, split.test)
                for in_use, result in worth.items():
                    results[f"{in_use}; {how} {share:.0%}; {count}"] = result
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    results = [
        trial(task, seed, options.data)
        for task in ("damage1", "damage2")
        for seed in range(options.trials)
    ]
    if options.json:
        print(json.dumps({"environment": environment(), "results": results}))
        return
    counted: dict[str, Counter[str]] = {}
    for of in results:
        for name, result in of.items():
            counted.setdefault(name.rpartition(";")[0], Counter())[result] += 1
    print(f"commit {environment()['commit']}: adopted of all such")
    for name, of in counted.items():
        shown = []
        for worth in ("harmful", "equal", "helpful"):
            adopted = of[f"{worth} adopted"]
            shown.append(f"{worth} {adopted:3} of {adopted + of[f'{worth} refused']:3}")
        print(f"{name:32} {'   '.join(shown)}")


if __name__ == "__main__":
    main()
