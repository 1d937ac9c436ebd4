"""Samples to adapt to and samples to test on have nothing in common."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: make test TEST_GROUPS='test torch'")

import models
from models import activities_3s, series
from skip2lora.datasets.har import Windows


def test_as_many_of_each_class_and_none_twice():
    y = np.array(list("aabbbababbab"))
    field, test = models.of_each(y, 2, 3, seed=1)
    assert [(y[field] == name).sum() for name in "ab"] == [2, 2]
    assert [(y[test] == name).sum() for name in "ab"] == [3, 3]
    assert len({*field, *test}) == 10
    assert not np.array_equal(field, models.of_each(y, 2, 3, seed=2)[0])


def test_a_job_tells_adapt_of_its_outputs():
    x, numbers, names = np.zeros((2, 1)), np.array([0, 1]), np.array(["a", "b"])
    assert models.Job(None, x, numbers, x, numbers).options == {"new_classes": False}
    assert models.Job(None, x, names, x, names).options == {"new_classes": True}
    alone = models.Job(None, x, names, x, names, keep_outputs=False)
    assert alone.options == {"keep_outputs": False}


def test_series_of_any_length_end_in_zeros(tmp_path, monkeypatch):
    folder = tmp_path / "aeon" / "aeon" / "datasets" / "data" / "Two"
    folder.mkdir(parents=True)
    (folder / "Two_TRAIN.ts").write_text("#of two\n@data\n1,2,3:4,5,6:2\n7:8:7\n")
    monkeypatch.setattr(models, "PACKAGES", tmp_path)
    x, y = series.read("Two", "TRAIN", 4)
    assert x.tolist() == [[[1, 2, 3, 0], [4, 5, 6, 0]], [[7, 0, 0, 0], [8, 0, 0, 0]]]
    assert y.tolist() == [1, 6]
    x, names = series.strangers("Two", "TRAIN", 4)
    assert (x.tolist(), names.tolist()) == ([[[7, 0, 0, 0], [8, 0, 0, 0]]], ["person 7"])


def test_activities_are_tested_on_other_recordings_of_a_person_the_network_has_not_met(monkeypatch):
    y = np.repeat([0, 1, 0, 1, 1, 0], [5, 4, 3, 2, 4, 3])
    subject = np.repeat([1, 2], [14, 7])
    rows = np.arange(len(y))
    x = np.repeat(rows, 2).reshape(-1, 2).astype(np.float32)
    monkeypatch.setattr(activities_3s, "windows", lambda: Windows(x, y, subject, ("a", "b"), ()))
    monkeypatch.setattr(activities_3s, "person_left_out", lambda seed: 1)
    monkeypatch.setattr(activities_3s, "network", lambda person: person)
    job = activities_3s.left_out(0, 3)
    assert (job.model, job.new_classes) == (1, False)
    assert job.x[:, 0].tolist() == [0, 1, 5, 6]  # 2.56 s and 1.28 s more of the first recordings
    assert job.test_x[:, 0].tolist() == [9, 10, 11, 12, 13]
    assert job.y.tolist() == [0, 0, 1, 1]
    assert job.test_y.tolist() == [0, 0, 0, 1, 1]
    assert len(activities_3s.left_out(0, 5.2).x) == 2 * 4  # 2.56 + 3 * 1.28 = 6.4 s
