"""The service as a whole: against an oracle in memory, over restarts, beside predicting threads."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnx_models
import skip2lora as s2
from desk import NAMES
from serve.place import accuracy, field, model, service, teach
from skip2lora.backbones.standins import SameOutputs
from skip2lora.serve.limits import Limits


def test_labels_are_known_new_or_refused(tmp_path: Path) -> None:
    x, _ = field(n_samples=3)
    with service(tmp_path) as served:
        served.predict(x)
        with pytest.raises(s2.DataError, match="'rust' is unknown"):
            served.label(1, "rust")
        assert served.label(1, "rust", new=True)["contradicting"] is False
        assert served.label(2, "rust")["answer"] == "rust"  # it is known now
        assert served.label(2, "stop")["contradicting"] is True
        assert served.unlabel(2) == "stop"
        assert served.sample(2)["label"] == "rust"
        for number in (0, -1, 4, 2**70):
            with pytest.raises((s2.DataError, s2.ParameterError)):
                served.label(number, "stop")
        with pytest.raises(s2.DataError, match="has no label"):
            served.unlabel(3)
        assert served.status()["n_labels"] == 2


def test_suspects_are_listed_until_confirmed_or_corrected(tmp_path: Path) -> None:
    x, names = field(n_samples=60)
    wrong = names.copy()
    for at in (7, 8):
        wrong[at] = NAMES[(NAMES.index(names[at]) + 1) % 3]
    with service(tmp_path) as served:
        for id, name in zip(served.predict(x).ids, wrong, strict=True):
            served.label(id, name)
        served.learn()
        first = {each["id"]: each for each in served.suspects()}
        assert {8, 9} <= set(first)
        assert first[8]["label"] == wrong[7]
        assert first[8]["answer"] == names[7]
        served.label(8, names[7], settle=True)
        served.label(9, wrong[8])
        assert not {8, 9} & {each["id"] for each in served.suspects()}
    with service(tmp_path) as served:
        assert {each["id"] for each in served.suspects()} == set(first) - {8, 9}


def test_another_model_is_refused_and_a_second_service(tmp_path: Path) -> None:
    with service(tmp_path), pytest.raises(s2.FileError, match="in use by another process"):
        service(tmp_path)
    with pytest.raises(s2.ModelError, match="is of another model"):
        s2.Service(model(1), tmp_path)
    with service(tmp_path) as served:  # nothing is left locked
        assert served.version == 0


class NumbersOf(SameOutputs):
    """A model whose outputs are numbers."""

    task = "regression"

    def forward(self, x: Any) -> s2.Taps:
        return self.backbone.forward(x)


def test_a_model_of_several_numbers_is_refused(tmp_path: Path) -> None:
    x, names = field(n_samples=30)
    with pytest.raises(s2.ParameterError, match="model is NewlyAdapted, expected a"):
        s2.Service(s2.adapt(model(), x, names), tmp_path)  # type: ignore[arg-type]
    numbers = onnx_models.save(onnx_models.mlp(), tmp_path / "m.onnx")
    numbers = NumbersOf(s2.load(numbers))
    with pytest.raises(s2.ParameterError, match="for regression of"):
        s2.Service(numbers, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_thread_learns_while_others_predict(tmp_path: Path) -> None:
    x, _ = field(8)
    answered: list[set[int]] = []
    stop = threading.Event()

    def stream() -> None:
        versions = set()
        while not stop.is_set():
            answers = served.predict(x[:7])
            versions.add(answers.version)
            expected = served_by[answers.version]
            if expected is not None:
                assert (answers.probabilities == expected).all()
        answered.append(versions)

    served_by: dict[int, np.ndarray | None] = {0: model().predict_proba(x[:7])}
    served_by = {number: served_by.get(number) for number in range(50)}
    with service(tmp_path, learning=True, limits=Limits(unlabelled=100_000)) as served:
        ids = served.predict(field(n_samples=60)[0]).ids
        threads = [threading.Thread(target=stream) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for id, name in zip(ids, field(n_samples=60)[1], strict=True):
                served.label(id, name)
            for _ in range(600):
                if served.version:
                    break
                served.wait(10**6, 0.1)
            for _ in range(20):
                served.predict(x)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert served.version
        assert accuracy(served) > 0.97
        assert len(answered) == 2
        assert all(served.version in versions for versions in answered)
        assert set().union(*answered) <= {0, *(each["number"] for each in served.versions())}


def test_what_was_learned_by_hand_is_not_learned_again_by_itself(tmp_path: Path) -> None:
    x, names = field(n_samples=40)
    limits = s2.Limits(first_batch=40)  # so that it is by hand that it is learned first
    with service(tmp_path, learning=True, limits=limits) as served:
        ids = served.predict(x).ids
        for id, name in zip(ids[:20], names[:20], strict=True):
            served.label(id, name)
        served.learn()
        time.sleep(1)  # in which it could
        assert len(served.versions()) == 2  # the base is one
        for id, name in zip(ids[20:30], names[20:30], strict=True):
            served.label(id, name)
        last = served.events()[-1]["id"]
        for _ in range(600):
            learned = [each for each in served.events() if each["kind"] == "learned"]
            if learned[-1]["detail"]["n_labels"] == 30:
                break
            served.wait(last, 0.1)
        assert len(served.versions()) == 3


def test_a_full_disk_pauses_learning_and_not_predicting(tmp_path: Path) -> None:
    x, names = field(n_samples=30)
    with service(tmp_path) as served:
        ids = served.predict(x).ids
        served.label(ids[0], names[0])
        away = tmp_path / "store.db.away"
        (tmp_path / "store.db").rename(away)
        assert (served.predict(x).probabilities == model().predict_proba(x)).all()
        for _ in range(100):
            if served.paused:
                break
            served.wait(10**6, 0.05)
        with pytest.raises(s2.FileError, match="cannot write"):
            served.label(ids[1], names[1])
        assert len(served.predict(x).ids) == 30
        away.rename(tmp_path / "store.db")
        for _ in range(100):
            if not served.paused:
                break
            served.wait(10**6, 0.05)
        served.label(ids[1], names[1])
        kinds = [each["kind"] for each in served.events()]
        assert kinds[-3:] == ["paused", "resumed", "labelled"]
        assert len(served.samples(limit=1000)) == 90  # what was predicted meanwhile, too


def test_goes_on_learning_when_as_many_labels_are_kept_as_may(tmp_path: Path) -> None:
    limits = Limits(labelled=30, unlabelled=300, per_second=100_000)
    with service(tmp_path, learning=True, limits=limits) as served:
        for _ in range(4):  # each more than is kept
            n_versions, given = len(served.versions()), teach(served, 40)
            served.predict(field(n_samples=300)[0])  # after which what is too much is removed
            for _ in range(600):
                if len(served.versions()) > n_versions:
                    break
                served.wait(10**6, 0.1)
            assert len(served.versions()) > n_versions, served.status()
            served.samples()
            assert served.status()["n_labels"] <= 30 + len(given)
