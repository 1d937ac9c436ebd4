"""What a service is planned to take, beside what one takes."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import skip2lora as s2
from desk import NAMES
from serve.place import field, model, service
from skip2lora.errors import DataError, ParameterError
from skip2lora.serve import security, server
from skip2lora.serve.limits import Limits
from skip2lora.serve.planned import plan_service, request_limits

FEW = Limits(unlabelled=300, labelled=60, per_second=1_000_000, pending=100_000)


def wide(width: int) -> s2.MLP:
    """A model of rows that are much larger than what surrounds them."""
    return s2.MLP.create([width, 8, 3], seed=0, class_names=NAMES)


def test_a_full_store_is_as_large_as_planned(tmp_path: Path) -> None:
    of, random = wide(500), np.random.default_rng(0)
    planned = plan_service(of, FEW)
    with s2.Service(of, tmp_path / "store", learning=False, limits=FEW) as served:
        for _ in range(40):
            x = random.standard_normal((50, 500), dtype=np.float32)
            served.label(served.predict(x).ids[0], NAMES[0])
        served.samples()
        status = served.status()
    assert status["n_predicted"] == 2_000
    assert status["n_labels"] == 40
    size = (tmp_path / "store" / "store.db").stat().st_size
    disk = planned.disk
    expected = disk.unlabelled_bytes + 40 * (disk.bytes_a_sample + disk.bytes_a_label)
    assert 0.8 * expected < size < 1.1 * expected + 100_000


def test_samples_that_are_large_are_fewer() -> None:
    small = plan_service(wide(500), FEW)
    assert small.n_unlabelled == 300
    assert plan_service(wide(500), replace(FEW, unlabelled_bytes=20_000)).n_unlabelled == 9
    large = plan_service(wide(5_000), FEW)
    each = (large.disk.bytes_a_sample, small.disk.bytes_a_sample)
    assert 0.8 * 4 * 4_500 < each[0] - each[1] < 1.3 * 4 * 4_500


@pytest.mark.usefixtures("unmeasured")
def test_learning_is_counted_by_labels_and_lab_rows() -> None:
    of = wide(500)
    few, many = (plan_service(of, replace(FEW, labelled=count)) for count in (100, 2_000))
    row = 4 * (500 + 8 + 3)
    more = many.memory.learning_bytes - few.memory.learning_bytes
    assert more > 3 * 1_900 * row  # as they are read, as they are learned, as they are scaled
    assert many.disk.labelled_bytes > 10 * few.disk.labelled_bytes
    old = (np.zeros((700, 500), np.float32), [NAMES[0]] * 700)
    beside = plan_service(of, FEW, lab_set=old)
    assert beside.n_lab_rows == 700
    assert beside.memory.learning_bytes - plan_service(of, FEW).memory.learning_bytes > 700 * row


@pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux alone")
def test_the_process_that_learns_is_counted(monkeypatch) -> None:
    memory = plan_service(model(), FEW).memory
    assert 1 << 20 < memory.learner_bytes < memory.process_bytes
    monkeypatch.setattr("skip2lora.serve.planned.rehearse", lambda *_: (0, 0))
    without = plan_service(model(), FEW).memory
    assert without.learner_bytes == 0
    assert 1 << 20 < memory.learning_bytes - without.learning_bytes < memory.process_bytes
    more = memory.idle_bytes - memory.process_bytes - (without.idle_bytes - without.process_bytes)
    assert more == memory.learner_bytes


@pytest.mark.usefixtures("unmeasured")
def test_says_how_many_labels_fit() -> None:
    of, limits = wide(500), replace(FEW, labelled=5_000)
    roomy = plan_service(of, limits, memory=1 << 34)
    assert roomy.fits
    assert roomy.n_labelled_that_fit == 5_000
    memory = roomy.memory
    assert memory.most_bytes == memory.peak_bytes + memory.waiting_bytes
    tight = plan_service(of, limits, memory=memory.most_bytes - memory.learning_bytes // 2)
    assert not tight.fits
    count = tight.n_labelled_that_fit
    assert 500 < count < 4_500
    assert plan_service(of, replace(limits, labelled=count), memory=tight.limit_bytes * 2).fits
    assert plan_service(of, limits, memory=1 << 20).n_labelled_that_fit == 0


@pytest.mark.usefixtures("unmeasured")
def test_a_choice_of_samples_is_counted_by_candidates() -> None:
    """Of each as it is read and with the taps of it, twice, and twice in double precision."""
    few, many = (
        [
            plan_service(wide(width), replace(FEW, candidates=n)).memory.asking_bytes
            for width in (500, 1_000)
        ]
        for n in (10, 110)
    )
    for at, width in enumerate((500, 1_000)):
        more = many[at] - few[at] - 8 * (110**2 - 10**2)
        assert more == pytest.approx(100 * 32 * (width + 11), rel=0.02)


def test_nothing_is_left_of_the_rehearsal(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    plan_service(model(), FEW)
    assert not list(tmp_path.iterdir())


def test_refuses_what_no_service_takes() -> None:
    numbers = s2.MLP.create([4, 8, 2], seed=0)
    adapted = s2.adapt(numbers, *_regression(), task="regression")
    with pytest.raises(ParameterError, match="expected"):
        plan_service(adapted, FEW)  # type: ignore[arg-type]


def _regression() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x = random.standard_normal((40, 4), dtype=np.float32)
    return x, x[:, :2]


def test_a_size_that_is_open_is_refused(monkeypatch) -> None:
    monkeypatch.setattr("skip2lora.serve.planned.random_samples", lambda *_: None)
    with pytest.raises(DataError, match="the size of a sample open, expected one that is fixed"):
        plan_service(model(), FEW)


def test_requests_are_those_of_a_service_that_others_reach() -> None:
    limits = request_limits()
    assert limits["request_bytes"] == security.Policy().most_bytes
    assert limits["connections"] == server.MOST_CONNECTIONS
    assert limits["requests_per_second"] == 200


def test_the_reference_and_a_call_are_counted(tmp_path: Path) -> None:
    """By the last tap, and by all of a sample."""
    narrow, wider = (plan_service(wide(width), FEW).memory for width in (500, 1_000))
    assert narrow.watching_bytes == wider.watching_bytes
    more = wider.predicting_bytes - narrow.predicting_bytes  # a sample, its row, and two aligned
    assert more == pytest.approx(256 * 500 * 4 * 4, abs=256 * 2 * 64)
    with service(tmp_path / "store", limits=FEW) as served:
        served.predict(field()[0])
        assert served.status()["drift"]["n_reference"] * 16 * 4 < (
            plan_service(model(), FEW).memory.watching_bytes
        )
