"""A service in the field on simulated data: noise comes, it asks and learns, bad labels come.

A fan monitor that knows a quiet room comes beside a ventilation fan. All that is told was measured
in that run; accuracy is that of samples which nobody labels.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from skip2lora.backbones.mlp import MLP
from skip2lora.data.samples import LabelledSamples
from skip2lora.datasets import simulated
from skip2lora.serve.service import Service
from skip2lora.training.lab_set import LabSet
from skip2lora.training.loop import Callback
from skip2lora.training.pretraining import pretrain
from skip2lora.training.rehearsal import lab_set_beside

HIDDEN, EPOCHS = (96, 96), 100
#: Samples of the quiet room that are learned, and that come before the noise does.
N_TRAIN, N_QUIET = 470, 450
#: Samples of noise before the first question, and before each other.
N_NOISY, N_BETWEEN = 300, 60
#: Labels, of which one in so many is wrong; then rounds of labels that are all wrong.
N_LABELS, ONE_WRONG, N_BAD = 60, 20, 2
LAB_ROWS = 10  # a class
#: Samples that come in all.
N_SAMPLES = N_QUIET + N_NOISY + (N_LABELS // 10 - 1 + N_BAD) * N_BETWEEN
CARELESS = "careless"  # whose labels are all wrong
_PATIENCE_S = 60  # for the service to learn by itself


@dataclass(frozen=True, eq=False)
class Stream:
    """Samples ``x``, (samples, 256), in the order in which they come, and what each is."""

    x: NDArray[np.float32]
    names: NDArray[np.str_]

    @classmethod
    def of(cls, samples: LabelledSamples, order: NDArray[np.int64]) -> Self:
        """Those of a recording, in another order."""
        return cls(samples.x[order], np.array(simulated.CLASS_NAMES)[samples.y[order]])


@dataclass(frozen=True, eq=False)
class Scenes:
    """What comes in the quiet room and in the noisy one, and another recording of that one."""

    quiet: Stream
    noisy: Stream
    test: Stream


@dataclass(frozen=True)
class Round:
    """``n_labels`` labels in all, ``n_wrong`` of them wrong, and what the gate said of them.

    ``version`` is the number of the candidate, None where none was made; ``accuracy`` is that of
    what is in use then, in the noisy room.
    """

    n_labels: int
    n_wrong: int
    version: int | None
    adopted: bool
    reason: str
    accuracy: float

    def line(self) -> str:
        """The same for a person."""
        what = "adopted" if self.adopted else "refused"
        candidate = "nothing learned" if self.version is None else f"version {self.version} {what}"
        wrong = f" ({self.n_wrong} wrong)" if self.n_wrong else ""
        return (
            f"{self.n_labels} labels{wrong}: {candidate}, {self.reason}; "
            f"{_percent(self.accuracy)} right"
        )


@dataclass(frozen=True)
class Story:
    """What happened. Accuracies are shares; but for ``quiet_accuracy`` of the noisy room.

    ``alarm_after`` counts samples of noise up to the alarm, None without one. In ``rounds`` 5 % of
    the labels are wrong, in ``bad_rounds`` all that were added; these are taken back at the end.
    """

    quiet_accuracy: float
    false_alarms: int
    alarm_after: int | None
    severity: str
    accuracy_before: float
    rounds: tuple[Round, ...]
    bad_rounds: tuple[Round, ...]
    accuracy_after: float


def prepare(file: str | os.PathLike[str], *, seed: int, callback: Callback | None = None) -> Scenes:
    """Write a model of the quiet room with its lab set beside it; what it will meet.

    Raises:
        FileError: the system refused.
        ParameterError: a negative ``seed``.
    """
    split = simulated.make_task(seed=seed, n_per_split=N_TRAIN + N_QUIET)
    random = np.random.Generator(np.random.PCG64(seed))
    order = random.permutation(N_TRAIN + N_QUIET)
    noisy = Stream.of(split.finetune, random.permutation(len(order)))
    x, y = (each[order[:N_TRAIN]] for each in (split.pretrain.x, split.pretrain.y))
    fresh = MLP.create([x.shape[1], *HIDDEN, 3], seed=seed, class_names=simulated.CLASS_NAMES)
    model = pretrain(
        fresh, x, y, epochs=EPOCHS, seed=seed, standardize=False, callback=callback
    )  # as in the paper
    model.save(file)
    LabSet.of(model, x, y, LAB_ROWS, seed=seed).save(lab_set_beside(file))
    quiet, test = Stream.of(split.pretrain, order[N_TRAIN:]), np.arange(len(order))
    return Scenes(quiet, noisy, Stream.of(split.test, test))


def play(
    service: Service, scenes: Scenes, step: Callable[[], None], say: Callable[[str], object]
) -> Story:
    """Let ``service`` meet it, and give it the labels that it asks for.

    ``step`` is called before each sample: it may wait, or raise to stop the story. ``say`` is given
    a line of each thing that happens.

    Raises:
        FileError: the disk refuses.
    """
    player = _Player(service, scenes, step, say)
    quiet = player.in_quiet()
    noise = player.in_noise()
    say(f"it asks for labels; one in {ONE_WRONG} is answered wrong")
    rounds = []
    for _ in range(N_LABELS // 10 - 1):  # 20 first
        rounds.append(player.taught("demo", lambda place: place % ONE_WRONG == ONE_WRONG // 2))
        player.come(N_BETWEEN)
    say("someone mixes the classes up")
    bad_rounds = []
    for _ in range(N_BAD):
        bad_rounds.append(player.taught(CARELESS, lambda _: True))
        player.come(N_BETWEEN)
    player.take_back()
    after = player.accuracy(scenes.test)
    say(f"in the noisy room {_percent(noise['accuracy_before'])} before, {_percent(after)} now")
    return Story(
        **quiet, **noise, rounds=tuple(rounds), bad_rounds=tuple(bad_rounds), accuracy_after=after
    )


class _Player:
    """Feeds a service, answers its questions, and measures."""

    def __init__(
        self, service: Service, scenes: Scenes, step: Callable[[], None],
        say: Callable[[str], object],
    ) -> None:  # fmt: skip
        self._service, self._scenes, self._step, self._say = service, scenes, step, say
        self._truth = dict[int, str]()
        self._n_noisy = self.n_labels = self._n_wrong = 0
        self._heard = service.events(limit=1_000)[-1]["id"]

    def accuracy(self, stream: Stream) -> float:
        """Of the version in use; the service hears nothing of these samples."""
        return float(np.mean(np.asarray(self._service.model.predict(stream.x)) == stream.names))

    def _come(self, stream: Stream, first: int, count: int) -> int:
        """Samples of a stream, one at a time; the number of the first."""
        ids = []
        for at in range(first, first + count):
            self._step()
            (id,) = self._service.predict(stream.x[at][None], source="demo").ids
            self._truth[id] = str(stream.names[at])
            ids.append(id)
        return ids[0]

    def come(self, count: int) -> int:
        """Samples of the noisy room; the number of the first."""
        first = self._come(self._scenes.noisy, self._n_noisy, count)
        self._n_noisy += count
        return first

    def in_quiet(self) -> dict[str, Any]:
        """Nothing happens there."""
        self._come(self._scenes.quiet, 0, N_QUIET)
        accuracy, alarms = self.accuracy(self._scenes.quiet), self._service.status()["n_alarms"]
        n_learned = self._service.drift.n_learned
        self._say(
            f"quiet: {n_learned} samples said what is normal, {N_QUIET - n_learned} more came, "
            f"{alarms} alarms; {_percent(accuracy)} right"
        )
        return {"quiet_accuracy": accuracy, "false_alarms": alarms}

    def in_noise(self) -> dict[str, Any]:
        """It is noticed."""
        first = self.come(N_NOISY)
        state, accuracy = self._service.drift, self.accuracy(self._scenes.test)
        after = None if state.alarm_at is None else state.alarm_at - first + 1
        noticed = "no alarm" if after is None else f"alarm after {after} samples"
        self._say(f"a ventilation fan starts: {noticed}; {_percent(accuracy)} right")
        return {"alarm_after": after, "severity": state.severity, "accuracy_before": accuracy}

    def taught(self, source: str, wrong: Callable[[int], bool]) -> Round:
        """Answer what is asked for; the verdict."""
        for id in self._service.ask():
            if id not in self._truth:  # somebody else's
                continue
            answer = self._truth[id]
            if wrong(self.n_labels):
                names = simulated.CLASS_NAMES
                answer = names[(names.index(answer) + 1) % len(names)]
                self._n_wrong += 1
            self._service.label(id, answer, source=source)
            self.n_labels += 1
        version, adopted, reason = self._verdict()
        accuracy = self.accuracy(self._scenes.test)
        judged = Round(self.n_labels, self._n_wrong, version, adopted, reason, accuracy)
        self._say(judged.line())
        return judged

    def _verdict(self) -> tuple[int | None, bool, str]:
        """What the service found by itself; asked for where it sees no reason to learn."""
        for event in self._service.events(self._heard):  # labels, and verdicts of earlier ones
            self._heard = event["id"]
        until = time.monotonic() + _PATIENCE_S
        while (left := until - time.monotonic()) > 0:
            self._service.wait(self._heard, left)
            for event in self._service.events(self._heard):
                self._heard, detail = event["id"], event["detail"]
                if event["kind"] in ("adopted", "refused"):
                    return detail["version"], event["kind"] == "adopted", detail["reason"]
        verdict = self._service.learn()
        return verdict.version, verdict.adopt, verdict.reason

    def take_back(self) -> None:
        """Undo the labels of who mixed the classes up."""
        ids = [
            each["sample"] for each in self._service.labels()
            if each["source"] == CARELESS and each["undone"] is None
        ]  # fmt: skip
        for id in ids:
            self._service.unlabel(id, source="demo")
        self._say(f"{len(ids)} labels are taken back")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
