"""A disk that is really full: predictions go on, labels are refused, and nothing told is lost."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import skip2lora as s2
from serve.place import field, model, service


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB; skipped where none may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None:
        pytest.skip("needs mount")
    words = [mount, "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs to mount a file system: {done.stderr.strip()}")
    yield place
    subprocess.run([str(shutil.which("umount")), str(place)], check=True)


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as opened:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while opened.write(bytes(size)) == size:
                    pass
            except OSError:
                continue


def until(served: s2.Service, so: Callable[[], bool]) -> None:
    for _ in range(400):
        if so():
            return
        served.wait(10**6, 0.05)
    raise AssertionError("it did not come to that")


def test_a_full_disk_is_said_and_what_was_acknowledged_stays(disk: Path) -> None:
    x, names = field(n_samples=60)
    store, filler = disk / "store", disk / "filler"
    with service(store) as served:
        ids = served.predict(x).ids
        for id, name in zip(ids[:30], names[:30], strict=True):
            served.label(id, name)
        fill(filler)
        acknowledged, refusal = 30, ""
        while not refusal:  # what the log has room for is still taken
            try:
                served.label(ids[acknowledged], names[acknowledged])
                acknowledged += 1
            except s2.FileError as error:
                refusal = str(error)
        assert "full, expected a disk that takes it, nothing was changed" in refusal
        assert served.paused
        assert "full" in served.paused
        answers = served.predict(x)
        assert np.allclose(answers.probabilities, model().predict_proba(x), atol=1e-6)
        with pytest.raises(s2.FileError):
            served.learn()
        assert served.version == 0
        filler.unlink()
        until(served, lambda: served.paused is None)
        served.label(ids[acknowledged], names[acknowledged])
        assert [each["kind"] for each in served.events()][-3:] == ["paused", "resumed", "labelled"]
        assert served.learn().version == 1
        of_full = answers.ids[0]
        assert served.sample(of_full)["answer"] == answers.names[0]  # it waited for room
    with service(store) as served:
        labels = served.labels()
        assert len(labels) == acknowledged + 1
        truth = dict(zip(ids, names, strict=True))
        assert all(each["answer"] == truth[each["sample"]] for each in labels)


def test_a_start_on_a_full_disk_is_refused_and_holds_nothing(disk: Path) -> None:
    store, filler = disk / "store", disk / "filler"
    with service(store) as served:
        served.predict(field(n_samples=20)[0])
    fill(filler)
    with pytest.raises(s2.FileError, match=r"cannot .*full"):
        service(store)
    filler.unlink()
    with service(store) as served:
        assert len(served.samples()) == 20
