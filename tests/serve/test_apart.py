"""A service that learns in a process of its own learns the same, and lives on when that ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from serve.place import accuracy, field, meter, model, readings, service, teach
from skip2lora.serve import classes, learner
from skip2lora.serve.service import Service

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux alone")


def waiting(served: Service) -> int:
    """The process that waits to learn."""
    apart = served.learner._apart
    assert apart is not None
    process = apart._nursery.process
    assert process is not None
    return process


def refused(served: Service) -> list[str]:
    return [each["detail"]["reason"] for each in served.events() if each["kind"] == "refused"]


def test_what_is_learned_is_the_same(tmp_path: Path) -> None:
    verdicts, files, answers, held = [], [], [], []
    for apart in (False, True):
        store = tmp_path / str(apart)
        with service(store, apart=apart) as served:
            teach(served, 60)
            verdicts.append(served.learn())
            assert served.version == 1
            assert accuracy(served) > 0.97
            folder = store / "versions" / "000001"
            files.append({each.name: each.read_bytes() for each in folder.iterdir()})
            answers.append(served.predict(field(4)[0]).probabilities)
            held.append((served._kept.meta("held_out_1"), served._kept.meta("suspects")))
            assert (served.learner._apart is not None) == apart
    assert verdicts[0] == verdicts[1]
    assert files[0] == files[1]
    assert len(files[0]) == 2
    assert (answers[0] == answers[1]).all()
    assert held[0] == held[1]


def test_numbers_are_learned_apart_too(tmp_path: Path) -> None:
    x, y = readings(n_samples=60)
    with Service(meter(), tmp_path, learning=False, apart=True) as served:
        for id, number in zip(served.predict(x).ids, y.tolist(), strict=True):
            served.label(id, number)
        assert served.learn().adopt


def test_later_labels_that_contradict_a_version_take_it_back(tmp_path: Path) -> None:
    with service(tmp_path, apart=True) as served:
        teach(served, 60, wrong=True)
        assert served.learn().adopt
        x, names = field(7, n_samples=8)
        for id, name in zip(served.predict(x).ids, names, strict=True):
            served.label(id, name)
        assert served.learner.check()
        assert served.version == 0
        assert "8 later labels" in served.events()[-1]["detail"]["reason"]


def test_what_is_refused_there_is_refused_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learned(*_: Any, **__: Any) -> None:
        raise s2.DataError("they are of one class, expected two: give more")

    monkeypatch.setattr(classes, "learned", learned)
    with service(tmp_path, apart=True) as served:
        teach(served, 60)
        with pytest.raises(s2.DataError, match="they are of one class, expected two: give more"):
            served.learn()
        assert refused(served) == []


def test_learning_that_is_killed_is_tried_again_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, learned = tmp_path / "first", classes.learned

    def deadly(*args: Any, **options: Any) -> Any:
        if not first.exists():
            first.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return learned(*args, **options)

    monkeypatch.setattr(classes, "learned", deadly)
    with service(tmp_path / "store", apart=True) as served:
        teach(served, 60)
        assert served.learn().version == 1
        assert len(refused(served)) == 1
        assert "the process that learned ended with signal 9" in refused(served)[0]


def test_learning_that_is_killed_each_time_is_refused_and_predictions_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deadly(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with service(tmp_path, apart=True) as served:
        assert served.learner._apart is not None
    monkeypatch.setattr(classes, "learned", deadly)
    with service(tmp_path, apart=True) as served:
        teach(served, 60)
        with pytest.raises(s2.FileError, match="the process that learned ended with signal 9"):
            served.learn()
        assert not served.status()["learning"]
        assert served.version == 0
        assert len(served.predict(field(4)[0])) == 300


def test_without_the_process_that_waits_it_learns_by_itself_and_says_so(tmp_path: Path) -> None:
    with service(tmp_path, apart=True) as served:
        teach(served, 60)
        os.kill(waiting(served), signal.SIGKILL)
        assert served.learn().version == 1
        assert "the process that waits to learn is gone" in refused(served)[0]
        assert served.learn().version == 2
        assert len([each for each in refused(served) if "gone" in each]) == 1


def test_predictions_go_on_while_it_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, learned = tmp_path / "go", classes.learned

    def patient(*args: Any, **options: Any) -> Any:
        while not go.exists():
            time.sleep(0.01)
        return learned(*args, **options)

    monkeypatch.setattr(classes, "learned", patient)
    with service(tmp_path / "store", apart=True) as served:
        teach(served, 60)
        thread = threading.Thread(target=served.learn)
        thread.start()
        while not served.status()["learning"]:
            time.sleep(0.01)
        before = served.predict(field(4)[0])
        assert served.status()["learning"]
        go.touch()
        thread.join(60)
        assert (before.version, served.version) == (0, 1)


def test_closing_gives_up_what_is_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classes, "learned", lambda *_, **__: time.sleep(600))
    limits = s2.Limits(first_batch=12)
    served = service(tmp_path, apart=True, learning=True, limits=limits)
    process = waiting(served)
    teach(served, 60)
    while not served.status()["learning"]:
        time.sleep(0.01)
    served.close()
    assert not Path(f"/proc/{process}").exists()
    with service(tmp_path) as served:
        assert served.status()["n_labels"] == 60
        assert refused(served) == []


def test_what_it_takes_is_weighed(tmp_path: Path) -> None:
    with service(tmp_path, apart=True) as served:
        teach(served, 60)
        waits, learns = served.learner.weighed()
        assert served.versions()[-1]["number"] == 0
    assert 1 << 20 < waits < 1 << 30
    assert 1 << 20 < learns < 1 << 30
    with service(tmp_path) as served:
        assert served.learner.weighed() == (0, 0)


def test_a_store_that_is_refused_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stranger").touch()
    closed: list[bool] = []
    close = learner.StudyApart.close
    monkeypatch.setattr(
        learner.StudyApart, "close", lambda self: (close(self), closed.append(self.there))
    )
    with pytest.raises(s2.FileError, match="stranger"):
        service(tmp_path, apart=True)
    assert closed == [False]


def test_what_a_given_adapter_calls_the_classes_is_known_there(tmp_path: Path) -> None:
    x, names = field(9, n_samples=90)
    x[::9, 1] += 30
    names = ["rust" if at % 9 == 0 else name for at, name in enumerate(names)]
    s2.adapt(model(), x, names, new_classes=True).save(tmp_path / "adapter")
    reasons = []
    for apart in (False, True):
        store = tmp_path / str(apart)
        with service(store, apart=apart, adapter=tmp_path / "adapter") as served:
            teach(served, 60)
            reasons.append(served.learn().reason)
    assert reasons == ["waiting for labels of: rust (0 of 3)"] * 2


def test_the_lab_set_is_there_apart(tmp_path: Path) -> None:
    x, names = field(3, n_samples=90)
    with service(tmp_path / "a", apart=True, lab_set=(x, names)) as served:
        teach(served, 60)
        assert served.learn().version == 1
        assert np.mean(served.model.predict(x) == np.array(names)) > 0.9
