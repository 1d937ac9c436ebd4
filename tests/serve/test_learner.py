"""Adopted is what is proved better; later labels, or a person, take it back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from desk import NAMES, blobs
from serve.place import accuracy, field, model, service, teach
from skip2lora.serve import classes, learner
from skip2lora.serve.gate import Verdict, verdict
from skip2lora.serve.learning import learned
from skip2lora.training.lab_set import LabSet


def kinds(served: s2.Service) -> list[str]:
    return [
        each["kind"] for each in served.events() if each["kind"] not in ("labelled", "reference")
    ]


def test_what_is_proved_better_is_adopted_and_serves_after_a_restart(tmp_path: Path) -> None:
    with service(tmp_path) as served:
        before = accuracy(served)
        teach(served, 60)
        judged = served.learn()
        assert judged.adopt
        assert judged.fixed > judged.broke
        assert judged.version == 1
        after, test = accuracy(served), field(4)[0]
        answers = served.predict(test)
        assert before < 0.9
        assert after > 0.97
        assert answers.version == served.version == 1
        assert kinds(served) == ["started", "learned", "adopted"]
    with service(tmp_path) as served:
        again = served.predict(test)
        assert again.version == 1
        assert (again.probabilities == answers.probabilities).all()


def test_memory_is_given_back_after_learning_alone(tmp_path: Path, monkeypatch) -> None:
    given: list[bool] = []
    with service(tmp_path) as served:
        monkeypatch.setattr(
            learner.allocator, "give_back", lambda: given.append(served.status()["learning"])
        )
        assert served.learn().version is None  # waits for labels
        assert given == []
        teach(served, 60)
        assert served.learn().version == 1
        assert given == [False]


def test_nothing_is_learned_before_each_class_has_three_labels(tmp_path: Path) -> None:
    x, names = field(n_samples=60)
    with service(tmp_path) as served:
        ids = served.predict(x).ids
        for id, name in zip(ids, names, strict=True):
            if name != "stop" or id < 6:
                served.label(id, name)
        judged = served.learn()
        assert not judged.adopt
        assert judged.reason == "waiting for labels of: stop (2 of 3)"
        assert served.versions()[-1]["number"] == 0
        assert served.status()["reason"] == judged.reason
    with service(tmp_path, all_classes=False) as served:
        assert served.learn().version == 1


def test_of_one_class_nothing_is_learned(tmp_path: Path) -> None:
    x, names = field(n_samples=30)
    with service(tmp_path, all_classes=False) as served:
        for id, name in zip(served.predict(x).ids, names, strict=True):
            if name == "stop":
                served.label(id, name)
        assert "waiting for labels of: normal" in served.learn().reason


def test_labels_that_prove_nothing_are_refused(tmp_path: Path) -> None:
    with service(tmp_path) as served:
        x, y = np.array(field(n_samples=9)[0]), field(n_samples=9)[1]
        for id, name in zip(served.predict(x).ids, y, strict=True):
            served.label(id, name)
        judged = served.learn()
        assert not judged.adopt
        assert "not proved better" in judged.reason
        assert served.version == 0
        assert served.versions()[1]["state"] == "refused"
        served.adopt(1)  # a person may
        assert served.version == 1
        assert served.versions()[1]["in_use"]


def test_with_approve_it_waits_for_a_person(tmp_path: Path) -> None:
    with service(tmp_path, approve=True) as served:
        teach(served, 60)
        assert served.learn().adopt
        assert served.version == 0
        assert served.status()["waiting_versions"] == [1]
        served.adopt(1)
        assert served.version == 1
        assert served.status()["waiting_versions"] == []


def test_later_labels_that_contradict_a_version_take_it_back(tmp_path: Path) -> None:
    with service(tmp_path) as served:
        teach(served, 60, wrong=True)  # all swapped: no gate can see that
        assert served.learn().adopt
        assert served.version == 1
        x, names = field(7, n_samples=8)
        for id, name in zip(served.predict(x).ids, names, strict=True):
            served.label(id, name)
        assert served.version == 1
        served._learner.check()
        assert served.version == 0
        assert kinds(served)[-1] == "rolled back"
        assert "8 later labels" in served.events()[-1]["detail"]["reason"]
        assert served.versions()[1]["state"] == "rolled back"
        assert not served._learner.check()


def test_a_version_in_use_that_is_turned_down_gives_way_to_the_one_before(tmp_path: Path) -> None:
    with service(tmp_path) as served:
        teach(served, 60)
        served.learn()
        served.reject(1)
        assert served.version == 0
        assert served.versions()[1]["state"] == "rejected"
        with pytest.raises(s2.ParameterError, match="version 0 is the model alone"):
            served.reject(0)
        with pytest.raises(s2.DataError, match="there is no version 9"):
            served.adopt(9)


def test_old_versions_go_but_not_the_one_in_use(tmp_path: Path) -> None:
    with service(tmp_path, limits=s2.Limits(versions=2)) as served:
        teach(served, 60)
        served.learn()
        for _ in range(4):
            served.learn()
        numbers = sorted(int(each.name) for each in (tmp_path / "versions").iterdir())
        assert numbers == [1, 4, 5]
        assert served.version == 1
        with pytest.raises(s2.DataError, match="version 2 is not kept any more"):
            served.adopt(2)
        assert served.version == 1


def test_versions_beyond_the_limit_are_forgotten_and_the_audit_log_has_them(tmp_path: Path) -> None:
    with service(tmp_path, limits=s2.Limits(records=1, versions=2)) as served:
        teach(served, 60)
        for _ in range(5):
            served.learn()
        served.samples()  # what waits is written
        assert [each["number"] for each in served.versions()] == [0, 1, 4, 5]
        assert served.version == 1
        assert served.status()["n_refused"] == 4
        log = [each["detail"] for each in served.events() if each["kind"] == "refused"]
        assert [each["version"] for each in log] == [2, 3, 4, 5]
        assert all("not proved better" in each["reason"] for each in log)
    with service(tmp_path) as served:
        assert served.learn().version == 6


def test_an_adapter_to_begin_with(tmp_path: Path) -> None:
    x, names = field(9)
    s2.adapt(model(), x, names).save(tmp_path / "adapter")
    expected = s2.AdaptedModel.load(model(), tmp_path / "adapter").predict_proba(x)
    with service(tmp_path / "store", adapter=tmp_path / "adapter") as served:
        assert served.version == 1
        assert (served.predict(x).probabilities == expected).all()
        served.adopt(0)
    with service(tmp_path / "store", adapter=tmp_path / "adapter") as served:
        assert served.version == 0  # the store knows better


def test_a_pointer_that_ran_ahead_of_its_record_is_taken_over(tmp_path: Path) -> None:
    with service(tmp_path, approve=True) as served:
        teach(served, 60)
        served.learn()
    (tmp_path / "current").write_text("1\n")
    with service(tmp_path) as served:
        assert served.version == 1
        assert served.versions()[1]["state"] == "adopted"


def test_new_classes_are_learned(tmp_path: Path) -> None:
    x, names = field(n_samples=90)
    x[::9, 1] += 30
    names = ["rust" if at % 9 == 0 else name for at, name in enumerate(names)]
    with service(tmp_path) as served:
        for id, name in zip(served.predict(x).ids, names, strict=True):
            served.label(id, name, new=True)
        assert served.learn().adopt
        assert served.class_names == (*NAMES, "rust")
        assert np.mean(np.array(served.predict(x).names) == np.array(names)) > 0.97


def test_a_later_candidate_is_held_against_answers_that_were_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def spied(labels: Any, now: Any, then: Any, **options: Any) -> Verdict:
        given.append((now.tolist(), then.tolist()))
        return verdict(labels, now, then, **options)

    monkeypatch.setattr(classes, "verdict", spied)
    x, names = field(n_samples=39)
    with service(tmp_path) as served:
        ids = served.predict(x).ids
        for id, name in zip(ids[:30], names, strict=False):
            served.label(id, name)
        served.adopt(served.learn().version or 0)
        text = served._kept.meta("held_out_1")
        other = {id: NAMES[(NAMES.index(name) + 1) % 3] for id, name in json.loads(text).items()}
        served._kept.set_meta(held_out_1=json.dumps(other))  # as no version would answer
        for id, name in zip(ids[30:], names[30:], strict=True):
            served.label(id, name)
        served.learn()
        now = [NAMES[place] for place in given[1][0]]
        assert now[:30] == [other[str(id)] for id in ids[:30]]
        assert now[30:] == served.model.predict(x[30:]).tolist()  # it has not learned these


def mixed_up(served: s2.Service) -> Verdict:
    """Each class is called as the next one, at the place that the model comes from."""
    x, y = blobs(1, n_samples=60)
    for id, label in zip(served.predict(x).ids, y, strict=True):
        served.label(id, NAMES[(label + 1) % 3])
    return served.learn()


def test_what_forgets_the_lab_set_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(frozen: Any, labelled: Any, keep: object, *, seed: int) -> Any:
        return learned(frozen, labelled, None, seed=seed)

    x, y = blobs(0, n_samples=90)
    rows = LabSet.of(model(), x, y, 30)
    for at, keep in enumerate((rows, (x, [NAMES[label] for label in y]))):
        with service(tmp_path / str(at), lab_set=keep) as served:
            monkeypatch.setattr(classes, "learned", forgetful)
            judged = mixed_up(served)
            assert not judged.adopt
            assert "proved better, but loses " in judged.reason
            assert "of 90 samples of the lab set (at most 1)" in judged.reason
            assert (served.version, served.versions()[1]["state"]) == (0, "refused")
            monkeypatch.undo()
            assert "lab set" not in served.learn().reason  # which is learned beside them now
    with service(tmp_path / "none") as served:
        assert mixed_up(served).adopt


def test_the_lab_set_hinders_nothing_that_keeps_it(tmp_path: Path) -> None:
    x, y = blobs(0, n_samples=90)
    with service(tmp_path, lab_set=LabSet.of(model(), x, y, 10)) as served:
        teach(served, 60)
        assert served.learn().adopt
        assert np.mean(served.model.predict(x) == np.array(NAMES)[y]) > 0.98
        assert accuracy(served) > 0.95
