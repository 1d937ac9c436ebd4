"""What adapting forgets, and what a lab set or old samples keep: the numbers of two pages of docs/.

    python bench/keeping.py --data ../shared/data [--trials 20] [--recipe exact]
    python bench/keeping.py --data ../shared/data --development --weights 1,2,4,8,default
    python bench/keeping.py --data ../shared/data --wrong 0.1 --trials 5

Needs the recordings (docs/paper.md) and scikit-learn. Each trial pre-trains another network. New
and old accuracy are those of recordings, or digits, that no training saw. With --development the
recordings of the tests stay shut: runs of neighbouring rows of the training recordings, which are
not trained on, stand in for them. By that the default of keep_weight was chosen.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import skip2lora as s2
from skip2lora.backbones.recipe import ANY_MODEL
from skip2lora.datasets import fan
from skip2lora.machine import cpu_name
from skip2lora.paper.protocol import load_split
from skip2lora.training.lab_set import LabSet

RECORDINGS = "cooling-fan/12cm_hmlo_"
DEGREES = 40
NEW_PERSONS, OLD_PERSONS = (9, 14, 16, 19, 25), (1, 3, 5, 6, 7)  # of HAR: the task's, and others
COUNT = 10  # of a class, in a lab set

#: Options of adapt.
RECIPES: dict[str, dict[str, Any]] = {
    "default": {"solver": "steps"},
    "scaled": vars(ANY_MODEL),
    "exact": {"solver": "exact"},
    "auto": {"recipe": "auto"},
}
Samples = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Task:
    """Samples to pre-train on and to adapt to, and tests of both domains.

    Where ``new_class`` is a label, the network does not know it, and ``field`` has it alone.
    ``moved`` says that ``new`` is of another domain than ``old``.
    """

    lab: Samples
    field: Samples
    new: Samples
    old: Samples
    new_class: int | None = None
    moved: bool = True
    epochs: int = 100

    @property
    def widths(self) -> list[int]:
        return [self.lab[0].shape[1], 96, 96, int(self.lab[1].max()) + 1]


def pair(data: Path, kind: str, part: str) -> Samples:
    files = (f"{data}/{RECORDINGS}{name}_{part}.zip" for name in ("normal", kind))
    of = fan.load_pair(*files)
    return of.x, of.y


def runs(samples: Samples, *, last: bool) -> Samples:
    """The last quarter of each class, or the others, in the order of the recording."""
    x, y = samples
    places = [np.flatnonzero(y == label) for label in np.unique(y)]
    chosen = [at[len(at) * 3 // 4 :] if last else at[: len(at) * 3 // 4] for at in places]
    at = np.sort(np.concatenate(chosen))
    return x[at], y[at]


def only(samples: Samples, which: np.ndarray) -> Samples:
    return samples[0][which], samples[1][which]


TaskOf = Callable[[int], Task]


def fans(data: Path, kind: str, *, development: bool) -> TaskOf:
    lab, field = pair(data, kind, "silentA_1"), pair(data, kind, "noisy_2")
    if development:
        new, old = runs(field, last=True), runs(lab, last=True)
        lab, field = runs(lab, last=False), runs(field, last=False)
    else:
        new, old = pair(data, kind, "noisy_1"), pair(data, kind, "silentA_2")
    return lambda _: Task(lab, field, new, old)


def new_fan(data: Path, kind: str, *, place: str) -> TaskOf:
    """A network that knows stop and normal of the silent room learns "damaged" from it alone."""
    lab, field = pair(data, kind, "silentA_1"), pair(data, kind, f"{place}_1")
    test = pair(data, kind, f"{place}_2")
    old = pair(data, kind, "silentA_2")
    lab, field, old = only(lab, lab[1] < 2), only(field, field[1] == 2), only(old, old[1] < 2)
    return lambda _: Task(lab, field, test, old, 2, moved=place == "noisy")


def new_posture(data: Path) -> TaskOf:
    """HAR: a network of five activities learns the sixth, LAYING, from new persons."""
    split = load_split("har", data)
    lab, field, test = ((of.x, of.y) for of in (split.pretrain, split.finetune, split.test))
    old = only(test, test[1] < 5)
    lab, field = only(lab, lab[1] < 5), only(field, field[1] == 5)
    return lambda _: Task(lab, field, test, old, 5, moved=False, epochs=20)


def persons(data: Path) -> TaskOf:
    """HAR's new persons, with the old domain of five others that are no part of pre-training."""
    split = load_split("har", data)
    field, test = ((of.x, of.y) for of in (split.finetune, split.test))
    with np.load(data / "har" / "har.npz") as archive:
        x, y, person = archive["X"], archive["y"], archive["subject"]
    old = np.isin(person, OLD_PERSONS)
    lab = ~old & ~np.isin(person, NEW_PERSONS)
    return lambda _: Task((x[lab], y[lab]), field, test, (x[old], y[old]), epochs=40)


def digits(_: Path, *, development: bool) -> TaskOf:
    """Upright digits in the lab, others turned by 40 degrees in the field."""
    from scipy.ndimage import rotate
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    upright = images.reshape(-1, 8, 8) / 16
    turned = rotate(upright, DEGREES, axes=(1, 2), reshape=False, order=1)
    x, turned_x = (of.reshape(-1, 64).astype(np.float32) for of in (upright, turned))
    pool = np.random.default_rng(99).permutation(len(x))
    pool = pool[: len(x) // 2] if development else pool

    def task(seed: int) -> Task:
        order = np.random.default_rng(seed).permutation(pool)
        n_lab = len(order) // 2
        lab, field, test = np.split(order, [n_lab, n_lab + 300])
        return Task(
            (x[lab], labels[lab]), (turned_x[field], labels[field]),
            (turned_x[test], labels[test]), (x[test], labels[test]),
        )  # fmt: skip

    return task


#: Each by its name; HAR, and those where a class is added, have no development data.
TASKS: dict[str, Callable[..., TaskOf]] = {
    "Damage1": lambda data, **of: fans(data, "damage1", **of),
    "Damage2": lambda data, **of: fans(data, "damage2", **of),
    "digits, turned": digits,
    "HAR": lambda data, **_: persons(data),
    "Damage1, class added, lab": lambda data, **_: new_fan(data, "damage1", place="silentA"),
    "Damage2, class added, lab": lambda data, **_: new_fan(data, "damage2", place="silentA"),
    "Damage1, class added, field": lambda data, **_: new_fan(data, "damage1", place="noisy"),
    "HAR, class added": lambda data, **_: new_posture(data),
}  # fmt: skip


def choices(
    task: Task, model: s2.MLP, seed: int, weights: list[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is tried: nothing old, and each set of old samples with each weight."""
    yield "field alone", {"keep": False}
    order = np.random.default_rng(seed).permutation(len(task.lab[1]))
    labels = task.lab[1][order]
    by_chance = [order[labels == label][:COUNT] for label in range(model.n_outputs)]
    sets: list[tuple[str, Any]] = [
        (f"lab set, {COUNT} a class", LabSet.of(model, *task.lab, COUNT, seed=seed)),
        (f"{COUNT} a class by chance", only(task.lab, np.concatenate(by_chance))),
        ("all of the lab", task.lab),
    ]
    for name, keep in sets:
        for weight in weights:
            given = None if weight == "default" else float(weight)
            title = name if weights == ["default"] else f"{name}, weight {weight}"
            yield title, {"keep": keep, "keep_weight": given}


def trial(task: Task, seed: int, weights: list[str], **options: Any) -> dict[str, list[float]]:
    """Accuracy in percent by what was tried: in the new domain, a new class apart, then the old."""
    model = s2.MLP.create(task.widths, seed=seed)
    model = s2.pretrain(model, *task.lab, epochs=task.epochs, seed=seed, standardize=False)
    parts = [np.ones(len(task.new[1]), bool)]
    if task.new_class is not None:
        is_new = task.new[1] == task.new_class
        parts = [is_new, ~is_new] if task.moved else [is_new]
        options = {**options, "new_classes": True}

    def scores(of: s2.MLP | s2.AdaptedModel) -> list[float]:
        right = of.predict(task.new[0]) == task.new[1]
        return [100 * share for share in (*(right[of].mean() for of in parts), of.score(*task.old))]

    results = {"before": scores(model)}
    for name, chosen in choices(task, model, seed, weights):
        if not chosen["keep"] and task.new_class is not None and "solver" in options:
            continue  # which refuses one class alone
        adapted = s2.adapt(model, *task.field, seed=seed, **chosen, **options)
        results[name] = scores(adapted)
    return results


def wrong_labels(task_of: TaskOf, share: float, n_trials: int) -> Iterator[tuple[float, float]]:
    """Of random wrong labels the share among the suspects, and of these the share that is wrong."""
    for seed in range(n_trials):
        task, random = task_of(seed), np.random.default_rng(seed)
        model = s2.MLP.create(task.widths, seed=seed)
        model = s2.pretrain(model, *task.lab, epochs=task.epochs, seed=seed, standardize=False)
        x, y = task.field[0], task.field[1].copy()
        wrong = random.permutation(len(y))[: int(share * len(y))]
        n_classes = model.n_outputs
        y[wrong] = (y[wrong] + random.integers(1, n_classes, len(wrong))) % n_classes
        fit = s2.adapt(model, x, y, solver="exact").fit
        listed = [] if fit is None else [each.row for each in fit.suspects or ()]
        among = np.isin(wrong, listed).sum()
        yield 100 * among / len(wrong), 100 * among / max(1, len(listed))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--weights", default="default", help="of old samples, with commas")
    parser.add_argument("--tasks", default="|".join(TASKS), help="with | between")
    parser.add_argument("--recipe", default="default", choices=list(RECIPES))
    parser.add_argument("--development", action="store_true")
    parser.add_argument("--wrong", type=float, help="instead: this share of wrong labels")
    asked = parser.parse_args()
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    print(f"{asked.trials} trials, recipe {asked.recipe}, {cpu_name()}, commit {commit}")
    for name, make in TASKS.items():
        if name not in asked.tasks.split("|"):
            continue
        task_of = make(asked.data, development=asked.development)
        if asked.wrong is not None:
            both = np.mean(list(wrong_labels(task_of, asked.wrong, asked.trials)), axis=0)
            words = f"{both[0]:.0f} % listed, {both[1]:.0f} % of the list are wrong"
            print(f"{name}: {asked.wrong:.0%} wrong, {words}", flush=True)
            continue
        results = [
            trial(task_of(seed), seed, asked.weights.split(","), **RECIPES[asked.recipe])
            for seed in range(asked.trials)
        ]
        head = ["new domain", "old domain"]
        if "added" in name:
            head = ["new class", "old classes, new domain", "old classes"]
        head = head if len(head) == len(results[0]["before"]) else [head[0], head[-1]]
        print(f"\n| {name} | {' | '.join(head)} |\n|---|{'---|' * len(head)}")
        for row in results[0]:
            values = np.array([each[row] for each in results])
            means = zip(values.mean(axis=0), values.std(axis=0, ddof=1), strict=True)
            print(f"| {row} | {' | '.join(f'{m:.1f} ± {s:.1f}' for m, s in means)} |", flush=True)


if __name__ == "__main__":
    main()
