"""A stream is predicted as the model does, kept as far as there is room, and watched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import onnx_models
import skip2lora as s2
from desk import blobs
from serve.place import field, model, service


def test_answers_are_those_of_the_model(tmp_path: Path) -> None:
    x, _ = field(n_samples=300)
    x = np.concatenate([x] * 5)  # more than pass at once
    with service(tmp_path) as served:
        answers = served.predict(x, source="test")
        assert answers.ids == tuple(range(1, 1501))
        assert (answers.probabilities == model().predict_proba(x)).all()
        assert answers.names == tuple(model().predict(x))
        with pytest.raises(s2.DataError):
            served.predict(x[:, :5])
        assert served.predict(x[:1]).ids == (1501,)
        of = served.sample(1500)
        assert of["source"] == "test"
        assert of["answer"] == answers.names[-1]
        assert (of["x"] == x[-1:]).all()
        assert of["labels"] == []


def test_the_callers_array_may_change_after(tmp_path: Path) -> None:
    onnx = s2.load(onnx_models.save(onnx_models.cnn(), tmp_path / "m.onnx"))
    x = onnx_models.images(2)
    with s2.Service(onnx, tmp_path / "store", learning=False) as served:
        was, answers = x.copy(), served.predict(x)
        x[:] = 0
        assert (served.sample(2)["x"] == was[1:]).all()
        again = served.predict(served.sample(2)["x"])
        assert np.allclose(again.probabilities, answers.probabilities[1:], atol=1e-6)


def test_of_a_fast_stream_a_part_is_kept(tmp_path: Path) -> None:
    x, names = field(n_samples=300)
    with service(tmp_path, limits=s2.Limits(pending=100, per_second=1)) as served:
        served.predict(x)
        kept = [each["id"] for each in served.samples(limit=1000)]
        assert len(kept) <= 101
        assert min(kept) == 1
        assert max(kept) >= 256
        status = served.status()
        assert status["n_predicted"] == 300
        assert status["n_dropped"] == 300 - len(kept)
        gone = next(id for id in range(1, 301) if id not in kept)
        with pytest.raises(s2.DataError, match=f"sample {gone} is not kept"):
            served.label(gone, names[0])


def test_a_change_is_noticed_and_known_after_a_restart(tmp_path: Path) -> None:
    limits = s2.Limits(learn=200)
    quiet, new = blobs(5, n_samples=260)[0], field(n_samples=60)[0]
    with service(tmp_path, limits=limits) as served:
        served.predict(quiet[:150])
        assert served.drift.phase == "learning"
        assert served.drift.n_learned == 150
        served.predict(quiet[150:])
        assert served.drift.phase == "watching"
        assert not served.drift.alarm
        served.predict(new)
        state = served.drift
        assert state.alarm
        assert 255 <= state.since <= 275
        assert [each["kind"] for each in served.events()][1:] == ["reference", "alarm"]
        assert served.events()[-1]["detail"]["sample"] == state.since
    with service(tmp_path, limits=limits) as served:
        assert served.drift == state
        assert served.ask(1)[0] >= state.since
        served.predict(new[:5])
        assert served.drift.since == state.since
        served.new_reference()
        assert served.drift.phase == "learning"
    with service(tmp_path, limits=limits) as served:
        assert served.drift.phase == "learning"


def test_what_was_normal_is_learned_anew_where_it_is_damaged(tmp_path: Path) -> None:
    with service(tmp_path) as served:
        served.predict(field(n_samples=300)[0])
        assert served.drift.phase == "watching"
        served._predicting._keep("watching", b"1\nno archive")
        served.sample(1)  # what waits is written
        served._predicting.keep = lambda: None
    with service(tmp_path) as served:
        assert served.drift.phase == "learning"
        assert served.events()[-1]["kind"] in ("forgotten", "started")
        assert "forgotten" in [each["kind"] for each in served.events()]
