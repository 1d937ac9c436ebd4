import os
from pathlib import Path

import numpy as np
import pytest

from desk import NAMES
from serve.place import field
from skip2lora.errors import FileError, ParameterError
from skip2lora.serve.watched import DONE, FAILED, Watched


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def table(path, count, first=0):
    path.parent.mkdir(exist_ok=True)
    x = field(n_samples=first + count)[0][first:]
    np.savetxt(path, x, delimiter=",", header=",".join(f"f{at}" for at in range(12)), comments="")
    return x


def names(folder):
    return sorted(
        each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()
    )


def test_files_are_predicted_once_they_are_whole_and_moved(served, folder):
    watched = Watched(served, folder)
    x = table(folder / "a.csv", 3)
    assert watched.scan() == 0  # it may still grow
    assert watched.scan() == 1
    assert watched.scan() == 0
    assert names(folder) == ["done/a.csv"]
    samples = served.samples()
    assert [each["source"] for each in samples] == ["folder"] * 3
    np.testing.assert_allclose(served.sample(1)["x"][0], x[0], rtol=1e-5)


def test_a_file_that_grows_is_waited_for(served, folder):
    watched = Watched(served, folder)
    table(folder / "a.csv", 2)
    watched.scan()
    table(folder / "a.csv", 5)
    assert watched.scan() == 0
    assert watched.scan() == 1
    assert len(served.samples()) == 5


def test_a_folder_of_a_class_labels(served, folder):
    watched = Watched(served, folder)
    table(folder / NAMES[1] / "a.csv", 2)
    table(folder / "no class" / "b.csv", 1)
    watched.scan()
    assert watched.scan() == 1
    assert [each["answer"] for each in served.labels()] == [NAMES[1]] * 2
    assert names(folder) == ["done/a.csv", "no class/b.csv"]


def test_what_cannot_be_read_is_put_aside_with_the_reason(served, folder):
    watched = Watched(served, folder)
    (folder / "a.csv").write_text("x,y\n1,2\n")
    (folder / "b.png").write_bytes(b"no image")
    (folder / "c.txt").write_text("hello")
    watched.scan()
    watched.scan()
    assert names(folder) == [
        f"failed/{name}{end}" for name in ("a.csv", "b.png", "c.txt") for end in ("", ".txt")
    ]
    assert "expect" in (folder / FAILED / "a.csv.txt").read_text()
    assert served.samples() == []


def test_files_of_one_name_are_all_kept(served, folder):
    watched = Watched(served, folder)
    for count in (1, 2):
        table(folder / "a.csv", count)
        watched.scan()
        watched.scan()
    assert names(folder) == ["done/a-2.csv", "done/a.csv"]


def test_links_pipes_and_hidden_files_are_left_alone(served, folder, tmp_path):
    table(tmp_path / "secret.csv", 1)
    (folder / "link.csv").symlink_to(tmp_path / "secret.csv")
    os.mkfifo(folder / "pipe.csv")
    table(folder / ".part.csv", 1)
    watched = Watched(served, folder)
    watched.scan()
    assert watched.scan() == 0
    assert served.samples() == []


def test_a_file_that_cannot_be_moved_is_taken_once(served, folder, monkeypatch):
    watched = Watched(served, folder)
    table(folder / "a.csv", 1)

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr("pathlib.Path.rename", refuse)
    assert [watched.scan() for _ in range(4)] == [0, 1, 0, 0]
    assert len(served.samples()) == 1


def test_it_watches_while_it_is_open(served, folder):
    with Watched(served, folder):
        table(folder / "a.csv", 1)
        assert served.wait(0, 1)
        for _ in range(200):
            if (folder / DONE / "a.csv").exists():
                break
            served.wait(10**6, 0.1)
    assert names(folder) == ["done/a.csv"]


def test_a_folder_that_is_not_there_is_refused(served, tmp_path):
    with pytest.raises(ParameterError, match="no folder"):
        Watched(served, tmp_path / "gone")


@pytest.mark.parametrize("name", [DONE, FAILED])
def test_a_folder_that_files_cannot_be_moved_to(served, folder, name):
    (folder / name).touch()
    with pytest.raises(FileError, match=f"{name}"):
        Watched(served, folder)


def test_a_file_that_goes_away_while_it_is_looked_at(served, folder, monkeypatch):
    watched = Watched(served, folder)
    table(folder / "a.csv", 2)
    table(folder / "b.csv", 3)
    lstat = Path.lstat

    def gone(path):
        if path.name == "a.csv":
            path.unlink(missing_ok=True)
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", gone)
    watched.scan()
    assert watched.scan() == 1
    assert names(folder) == ["done/b.csv"]
