"""How often the gate of numbers adopts what is harmful, and refuses what helps: docs/gate.md.

    python bench/nearness.py [--trials 5] [--lab 0] [--json]

A network learns a number of six others in each trial anew, and then its place changes: sensors get
a gain and an offset, the relation changes, or noise comes, or nothing does. Some labels are wrong.
The candidate learns all labels there are. Harmful is a candidate whose mean absolute error on 2,000
other samples of the place is 2 % or more above that of what is in use, helpful one 2 % below. The
rule is compared with its test alone, and with a fifth held out and a mean error that is no larger.
With ``--lab`` so many rows of home are learned beside the labels, and the rule is compared with
itself without its guard of them: harmful is then a candidate whose mean error on 2,000 samples of
home grows by more than 2 % of what these differ from their median, helpful one where it shrinks so.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections import Counter
from functools import partial

import numpy as np

import skip2lora as s2
from harness import environment
from skip2lora.serve.nearness import kept_lab_set, verdict
from skip2lora.training.lab_set import LabSet

N_FEATURES, N_OLD, COUNTS, WORTH = 6, 40, (20, 40, 80, 160), 0.02
DRIFTS = ("none", "sensors", "relation", "noise")
WRONG = (("none", 0.0), ("noise", 1.0), ("others", 0.1), ("others", 0.3), ("others", 0.5),
         ("unit", 0.3))  # fmt: skip
RULES = ("service", "test alone", "a fifth held out")
Model = s2.MLP | s2.AdaptedModel


class Place:
    """Samples and numbers, at home and after a drift."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng([seed, 17])
        self.weights = random.normal(size=(2, N_FEATURES))
        self.gain = random.uniform(0.7, 1.4, N_FEATURES)
        self.offset = random.normal(0, 0.4, N_FEATURES)

    def samples(
        self, drift: str, count: int, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        x = random.normal(size=(count, N_FEATURES))
        first, second = self.weights
        y = x @ first + np.sin(x @ second)
        if drift == "relation":
            y = 1.3 * y + 0.5 * x @ second + 0.5
        if drift == "sensors":
            x = self.gain * x + self.offset
        if drift == "noise":
            x = x + random.normal(0, 0.5, x.shape)
        y = y + random.normal(0, 0.1, count)
        return x.astype(np.float32), y.astype(np.float32)


def spoilt(y: np.ndarray, how: str, share: float, random: np.random.Generator) -> np.ndarray:
    """Numbers that are noisy, of other samples, or a share of them in another unit."""
    wrong = random.random(len(y)) < share
    if how == "noise":
        return y + random.normal(0, y.std(), len(y)).astype(np.float32)
    if how == "others":
        return np.where(wrong, random.permutation(y), y)
    return np.where(wrong, 1.8 * y + 3.2, y) if how == "unit" else y


def numbers(model: Model, x: np.ndarray) -> np.ndarray:
    return model.logits(x)[:, 0].astype(float)


def held_out(adapted: s2.AdaptedModel, n: int) -> np.ndarray:
    """What it answers to the samples it learned, each by a model that had not."""
    answers, held = np.full(n, np.nan), adapted.fit.answers
    new = held.row >= 0
    answers[held.row[new]] = held.logits[new, 0]
    return answers


def fifth(model: s2.MLP, now: np.ndarray, x: np.ndarray, y: np.ndarray) -> bool:
    """Whether a model of four fifths is no worse on the last of them."""
    test = np.arange(len(y)) % 5 == 4
    candidate = s2.adapt(model, x[~test], y[~test], task="regression", solver="exact")
    errors = np.abs(numbers(candidate, x[test]) - y[test]), np.abs(now[test] - y[test])
    return bool(errors[0].mean() <= errors[1].mean())


def judged(
    used: Model, model: s2.MLP, x: np.ndarray, y: np.ndarray, n_old: int, test: tuple
) -> dict[str, str]:
    """By rule: adopted or refused, and what the candidate is worth."""
    candidate = s2.adapt(model, x, y, task="regression", solver="exact")
    errors = [np.abs(numbers(each, test[0]) - test[1]).mean() for each in (used, candidate)]
    gain = 1 - errors[1] / errors[0]
    worth = "helpful" if gain >= WORTH else "harmful" if gain <= -WORTH else "equal"
    now, then, old = numbers(used, x), held_out(candidate, len(y)), np.arange(len(y)) < n_old
    if n_old:
        now[:n_old] = held_out(used, n_old)
    known = np.isfinite(then)
    ruled = verdict(y[known], now[known], then[known], old=old[known], first=n_old == 0)
    adopt = (ruled.adopt, ruled.p < (0.2 if n_old else 0.05), fifth(model, now, x, y))
    return {
        rule: f"{worth} {'adopted' if each else 'refused'}"
        for rule, each in zip(RULES, adopt, strict=True)
    }


def trial(seed: int) -> dict[str, str]:
    place, random = Place(seed), np.random.default_rng([seed, 3])
    fresh = s2.MLP.create([N_FEATURES, 32, 32, 1], seed=seed, task="regression")
    model = s2.pretrain(fresh, *place.samples("none", 600, random), epochs=60)
    results = {}
    for drift in DRIFTS:
        test = place.samples(drift, 2_000, random)
        x, y = place.samples(drift, N_OLD + max(COUNTS), random)
        good = s2.adapt(model, x[:N_OLD], y[:N_OLD], task="regression", solver="exact")
        for how, share in WRONG:
            for count in COUNTS:
                new = spoilt(y[N_OLD : N_OLD + count], how, share, random)
                for name, used, labels in (
                    ("base", model, new), ("adapter", good, np.append(y[:N_OLD], new)),
                ):  # fmt: skip
                    n_old = len(labels) - len(new)
                    samples = x[N_OLD - n_old : N_OLD + count]
                    for rule, result in judged(used, model, samples, labels, n_old, test).items():
                        results[f"{rule}; {name}; {how} {share:.0%}; {drift}; {count}"] = result
    return results


def lab_trial(seed: int, n_lab: int) -> dict[str, str]:
    """By rule: adopted or refused beside rows of home, and what the candidate is worth there."""
    place, random = Place(seed), np.random.default_rng([seed, 3])
    fresh = s2.MLP.create([N_FEATURES, 32, 32, 1], seed=seed, task="regression")
    samples = place.samples("none", 600, random)
    model = s2.pretrain(fresh, *samples, epochs=60)
    lab = LabSet.of(model, *samples, n_lab)
    lab_x, lab_y = lab.taps[0], lab.answers[:, 0]
    home_x, home_y = place.samples("none", 2_000, random)
    least, results = WORTH * np.abs(home_y - np.median(home_y)).mean(), {}
    for drift in DRIFTS:
        x, y = place.samples(drift, max(COUNTS), random)
        for how, share in WRONG:
            for count in COUNTS:
                new = spoilt(y[:count], how, share, random)
                candidate = s2.adapt(
                    model, x[:count], new, task="regression", solver="exact", keep=lab
                )
                grown = [np.abs(numbers(of, home_x) - home_y).mean() for of in (candidate, model)]
                grows = grown[0] - grown[1]
                worth = "harmful" if grows > least else "helpful" if grows < -least else "equal"
                then = held_out(candidate, count)
                known = np.isfinite(then)
                alone = verdict(new[known], numbers(model, x[:count])[known], then[known])
                guarded = (
                    alone.adopt
                    and kept_lab_set(
                        alone, lab_y, numbers(model, lab_x), numbers(candidate, lab_x)
                    ).adopt
                )
                for rule, each in (("service", guarded), ("without the guard", alone.adopt)):
                    key = f"{rule}; lab {n_lab}; {how} {share:.0%}; {drift}; {count}"
                    results[key] = f"{worth} {'adopted' if each else 'refused'}"
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--lab", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    one = partial(lab_trial, n_lab=options.lab) if options.lab else trial
    results = [one(seed) for seed in range(options.trials)]
    if options.json:
        print(json.dumps({"environment": environment(), "results": results}))
        return
    counted: dict[str, Counter[str]] = {}
    for of in results:
        for name, result in of.items():
            rule, used, wrong, *_ = name.split("; ")
            for key in (f"{rule}; {used}; {wrong}", f"{rule}; all"):
                counted.setdefault(key, Counter())[result] += 1
    print(f"commit {environment()['commit']}: adopted of all such")
    for name, of in counted.items():
        shown = []
        for worth in ("harmful", "equal", "helpful"):
            adopted = of[f"{worth} adopted"]
            shown.append(f"{worth} {adopted:3} of {adopted + of[f'{worth} refused']:3}")
        print(f"{name:40} {'   '.join(shown)}")


if __name__ == "__main__":
    main()
