"""A model in the field: it predicts, notices change, asks for labels, learns and adopts."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np

from skip2lora.adapted import AdaptedModel
from skip2lora.adapters.folder import Tapping
from skip2lora.arrays import SamplesLike, whole
from skip2lora.backbones.base import Backbone, check_backbone
from skip2lora.backbones.inputs import InputSpec
from skip2lora.data.media import Media
from skip2lora.data.sound_options import Sound
from skip2lora.serve import views
from skip2lora.serve.answering import Frozen, Served
from skip2lora.serve.apart import StudyApart
from skip2lora.serve.drift import DriftState
from skip2lora.serve.events import Events
from skip2lora.serve.gate import Verdict
from skip2lora.serve.labels import check_kept, check_task, labels_of
from skip2lora.serve.learner import Learner, Rules
from skip2lora.serve.limits import Limits
from skip2lora.serve.media import images_of
from skip2lora.serve.predicting import Predicting
from skip2lora.serve.queue import Asking
from skip2lora.serve.records import ROLLED_BACK, WAITING
from skip2lora.serve.samples import SKIPPED
from skip2lora.serve.store import Store
from skip2lora.serve.turns import Turns
from skip2lora.serve.watching import Watching
from skip2lora.system import FORKS
from skip2lora.tasks.task import CLASSIFICATION
from skip2lora.training.rehearsal import Keep

__all__ = ["DriftState", "Limits", "Served", "Service", "Verdict"]

_MOST = 2**53  # what JSON has as a whole number in every program


class Service:
    """A model that predicts a stream and learns from a few labels, with one folder for its state.

    ``model`` is one of classes, or of one number, that :func:`skip2lora.load` gives, ``store`` a
    folder of this model, made where there is none. ``adapter`` is a folder to begin with, where the
    store has no version yet; what it calls the classes, all do. ``lab_set`` is what
    :func:`skip2lora.adapt` takes as ``keep``: rows of the old domain, by default those beside the
    model's file, False for none. What is proved better is adopted, or waits for :meth:`adopt` with
    ``approve``. Nothing is learned before each class has three labels, unless ``all_classes`` is
    off. With ``learning`` a thread learns as labels come, with ``apart`` in a process of its own
    (on Linux), which is forked here: before there are other threads. ``sound`` is how recordings
    become samples, where neither model nor adapter says it.

    Several threads may call every method; predictions wait for neither training nor the disk.

    Raises:
        FileError: another process uses the store, or the system refuses it.
        ModelError: the store is damaged, of a newer program, or of another model.
        ParameterError: the model is of several labels or numbers, or an option is out of range.
    """

    def __init__(
        self,
        model: Backbone,
        store: str | os.PathLike[str],
        *,
        adapter: str | os.PathLike[str] | None = None,
        name: str = "model",
        lab_set: Keep | None = None,
        approve: bool = False,
        all_classes: bool = True,
        learning: bool = True,
        apart: bool = False,
        limits: Limits | None = None,
        sound: Sound | None = None,
        seed: int = 0,
    ) -> None:
        check_backbone(model)
        check_task(model)
        model.need_outputs(closed=True)
        self.name, self.store, self.limits = name, Path(store), limits or Limits()
        self._frozen, self._approve = Frozen(model), approve
        labels = labels_of(self._frozen, lab_set, all_classes=all_classes, seed=seed)
        self._labels = labels
        about = {
            "model": model.fingerprint, "tapping": Tapping.of(model).to_json(),
            "tap_widths": list(model.tap_widths), "n_outputs": model.n_outputs,
        }  # fmt: skip
        self._closed = False
        study = StudyApart(self._frozen, labels, self.store) if apart and FORKS else None
        try:
            self._kept = Store(self.store, about, self.limits, self._disk_changed)
        except BaseException:
            if study is not None:
                study.close()
            raise
        try:
            self._events = Events(self._kept)
            rules = Rules(labels, approve, self.limits, study)
            self._learner = Learner(self._frozen, self._kept, self._events, rules, self._renewed)
            self._turns = Turns(self._learner, self._kept, self._events)
            watching = Watching(model.tap_widths[-1], self.limits.learn, seed)
            self._predicting = Predicting(
                self._frozen, self._kept, self._events, watching, lambda: self._learner.in_use
            )
            self._asking = Asking(
                self._kept,
                self._events,
                self._frozen.width,
                all_classes=all_classes and not self._frozen.numbers,
            )
            self._events.say("started", version=self._learner.in_use.number, name=name)
            if adapter is not None:
                self._learner.given(adapter)
            check_kept(lab_set, self._frozen.vocabulary)
            said = self._learner.in_use.model.images
            self._learner.images = images_of(self._kept, said, sound, model.inputs)
        except BaseException:
            if study is not None:
                study.close()
            self._kept.close()
            raise
        if learning:
            self._turns.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        version = self._learner.in_use.number
        return f"Service({self._frozen.model!r}, {str(self.store)!r}, version {version})"

    def close(self) -> None:
        """Write what waits, and let another process use the store."""
        if self._closed:
            return
        self._closed = True
        self._turns.close()
        self._predicting.keep()
        self._events.say("closed")
        self._kept.close()

    # --- what is served -----------------------------------------------------------------------

    @property
    def model(self) -> Backbone | AdaptedModel:
        """What predicts a sample now."""
        return self._learner.in_use.model

    @property
    def version(self) -> int:
        """The number of the version in use, 0 for the model alone."""
        return self._learner.in_use.number

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """What a sample consists of."""
        return self._frozen.model.inputs

    @property
    def images(self) -> Media | None:
        """How files become samples, as far as it is known."""
        return self._learner.images

    @property
    def task(self) -> str:
        """What is learned."""
        return self._frozen.task

    @property
    def class_names(self) -> tuple[str, ...]:
        """What each class of the version in use is called: its name, or its number."""
        return self._learner.in_use.titles

    def predict(self, X: SamplesLike, source: str = "python") -> Served:
        """Answers to samples, which get numbers and are kept: one forward pass each.

        ``source`` says where they come from.

        Raises:
            DataError: samples the model cannot take.
            ModelError: the model gave NaN or infinity.
        """
        return self._predicting.predict(X, source)

    @property
    def drift(self) -> DriftState:
        """What is known of change."""
        return self._predicting.watching.state

    def new_reference(self) -> None:
        """Learn anew what is normal, from the samples that come now."""
        self._predicting.renew()

    @property
    def paused(self) -> str | None:
        """Why the disk takes nothing now, so that no label and no version is written; or None."""
        return self._kept.paused

    def status(self) -> dict[str, Any]:
        """How it is doing, ready for JSON."""
        store, learner, records = self._kept, self._learner, self._learner.records.all()
        states = [record.state for record in records if record.number]
        return {
            "name": self.name, "version": self.version, "classes": list(self.class_names),
            "task": self.task, "n_predicted": self._predicting.n_predicted,
            **self._predicting.counts(), "n_dropped": store.n_dropped,
            "n_samples": store.one("SELECT COUNT(*) FROM samples"), "n_labels": store.n_labelled,
            "n_asked": len(store.open_questions()), "n_suspects": len(self.suspects()),
            "n_alarms": store.one("SELECT COUNT(*) FROM events WHERE kind = 'alarm'"),
            "n_adopted": sum(of.number > 0 and of.adopted is not None for of in records),
            "n_refused": learner.records.n_refused, "n_rolled_back": states.count(ROLLED_BACK),
            "waiting_versions": [record.number for record in records if record.state == WAITING],
            "learning": learner.running, "last_learn_ms": learner.last_ms,
            "reason": learner.reason, "paused": self.paused, "approve": self._approve,
            "drift": asdict(self.drift), "limits": asdict(self.limits),
        }  # fmt: skip

    # --- labels -------------------------------------------------------------------------------

    def ask(self, count: int | None = None) -> list[int]:
        """Numbers of samples that a label is asked for: open questions, with more if they are few.

        By default they are 20 until so many samples have a label, and 10 from then on: those that
        stand for all, then uncertain ones, of which up to half are such as look like a class that
        has fewer than three labels. No sample and no copy of one is asked for again.

        Raises:
            FileError: the disk refuses.
            ParameterError: ``count`` is not from 1 to 1,000.
        """
        return self._asking.ask(count, self._learner.in_use, since=self._predicting.since)

    def label(
        self, sample_id: int, answer: str | float, *, new: bool = False, settle: bool = False,
        source: str = "python",
    ) -> dict[str, Any]:  # fmt: skip
        """Say what a sample is; the label is on the disk when this returns.

        A second, different label of a sample is kept beside the first, and the sample is left out
        of training until they are settled: with ``settle`` the others are undone. The same label
        twice confirms it: it is never left out as a suspect. ``new`` lets a class be new.

        Raises:
            DataError: an unknown class and not ``new``, no finite number where the model gives
                numbers, or a sample that is not kept.
            FileError: the disk refuses; nothing is labelled.
        """
        name = self._labels.check(answer, self._titles(), new=new)
        number = self._kept.add_label(_number(sample_id), name, source, settle=settle)
        of, *_ = views.sample(self._kept, sample_id)
        self._events.say(
            "labelled", sample=sample_id, label=name, source=source,
            contradicting=of["contradicting"],
        )  # fmt: skip
        self._turns.wake()
        return {
            "id": number, "sample": sample_id, "answer": name, "source": source,
            "contradicting": of["contradicting"],
        }  # fmt: skip

    def _titles(self) -> tuple[str, ...]:
        """Classes beside those of the model: of the version in use, of labels."""
        if self.task != CLASSIFICATION.name:
            return ()
        given = [row[0] for row in self._kept.read("SELECT DISTINCT answer FROM labels")]
        return tuple(dict.fromkeys((*self.class_names, *given)))

    def unlabel(self, sample_id: int, source: str = "python") -> str:
        """Undo the newest label of a sample; what it was.

        Raises:
            DataError: it has none.
            FileError: the disk refuses.
        """
        answer = self._kept.undo_label(_number(sample_id))
        self._events.say("unlabelled", sample=sample_id, label=answer, source=source)
        self._turns.wake()
        return answer

    def skip(self, sample_id: int, source: str = "python") -> None:
        """Do not ask for a sample any more.

        Raises:
            DataError: it is not kept.
            FileError: the disk refuses.
        """
        views.sample(self._kept, _number(sample_id))
        self._kept.mark([sample_id], SKIPPED)
        self._events.say("skipped", sample=sample_id, source=source)

    def suspects(self) -> list[dict[str, Any]]:
        """Labels that the last candidate's held-out answers contradict and nobody confirmed.

        Each with the number of its sample as ``id``, the ``label``, the ``answer``, and the
        probabilities of both; the surest first.
        """
        if not self._learner.suspects:
            return []
        now = self._kept.unconfirmed()
        return [each for each in self._learner.suspects if now.get(each["id"]) == each["label"]]

    def labels(self, limit: int | None = None) -> list[dict[str, Any]]:
        """All labels that were given, the newest first, undone ones among them."""
        return views.labels(self._kept, limit, numbers=self._frozen.numbers)

    def samples(
        self, state: str | None = None, label: str | None = None, limit: int = 100,
        before: int | None = None,
    ) -> list[dict[str, Any]]:  # fmt: skip
        """Samples that are kept, the newest first, numbered below ``before``.

        ``state`` is unlabelled, labelled, asked or contradicting; ``label`` is one that was given.

        Raises:
            ParameterError: there is no such state.
        """
        self._kept.flush()
        entries = views.samples(self._kept, state, label, limit, before)
        return [views.of_number(each) for each in entries] if self._frozen.numbers else entries

    def sample(self, sample_id: int) -> dict[str, Any]:
        """One sample with its ``labels``, and ``x`` as the model takes it, (1, ...), or None.

        Raises:
            DataError: it is not kept.
        """
        self._kept.flush()
        of, row, x = views.sample(self._kept, _number(sample_id))
        if x is None and self._frozen.model.first_tap_is_input:
            width = self._frozen.format.tap_widths[0]
            x = np.frombuffer(row, np.float32)[None, :width]
        return (views.of_number(of) if self._frozen.numbers else of) | {"x": x}

    @property
    def learner(self) -> Learner:
        """What learns."""
        return self._learner

    # --- learning -----------------------------------------------------------------------------

    def learn(self) -> Verdict:
        """Learn from all labels now; what is proved better is adopted, unless it waits for that.

        Raises:
            FileError: the disk refuses.
        """
        return self._learner.learn()

    def adopt(self, version: int, source: str = "python") -> None:
        """Use a version from now on; 0 is the model alone.

        Raises:
            DataError: there is none, or it is not kept any more.
            FileError: the disk refuses; the one before stays in use.
        """
        self._learner.adopt(version, source=source)

    def reject(self, version: int, source: str = "python") -> None:
        """Turn a version down; if it is in use, the one before it is used again.

        Raises:
            DataError, FileError: as :meth:`adopt`.
            ParameterError: it is the model alone.
        """
        self._learner.reject(version, source=source)

    def versions(self) -> list[dict[str, Any]]:
        """All versions, the oldest first: what they fixed and broke, and which is in use."""
        return [record.to_dict(self.version) for record in self._learner.records.all()]

    def events(self, after: int = 0, limit: int = 1_000) -> list[dict[str, Any]]:
        """What happened after the event of that number, the oldest first."""
        return self._events.after(after, limit)

    def wait(self, after: int, timeout: float) -> bool:
        """Whether there is an event after that number, now or within ``timeout`` seconds."""
        return self._events.wait(after, timeout)

    def _renewed(self) -> None:
        """Another version is in use: what is normal may be another, too."""
        self._predicting.renew()

    def _disk_changed(self, reason: str | None) -> None:
        if reason is None:
            self._events.say("resumed")
            self._turns.wake()
        else:
            self._events.say("paused", reason=reason)


def _number(sample_id: int) -> int:
    return whole("sample", sample_id, 1, _MOST)
