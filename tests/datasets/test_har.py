"""The HAR task: folder, zip and npz of the same rows, the split, and what is refused."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from har_files import (
    ACTIVITIES,
    FIVE,
    TEST,
    TRAIN,
    arrays,
    edit,
    same,
    write_nested,
    write_npz,
    zipped,
)
from skip2lora.datasets import har
from skip2lora.errors import DataError, FileError

Refused = Callable[..., str]
Arrays = dict[str, np.ndarray]


def test_npz(tmp_path: Path) -> None:
    task = har.load_task(write_npz(tmp_path))
    expected = arrays()
    others = ~np.isin(expected["subject"], FIVE)
    np.testing.assert_array_equal(task.pretrain.x, expected["X"][others])
    np.testing.assert_array_equal(task.pretrain.y, expected["y"][others])
    assert len(task.pretrain.x) + len(task.finetune.x) + len(task.test.x) == others.size
    for part in task:
        assert part.x.dtype == np.float32
        assert part.x.flags.c_contiguous
        assert part.labels.dtype == np.int64
        assert part.class_names == ACTIVITIES
    same(task, har.load_task(str(tmp_path)))  # the folder that holds har.npz


def test_windows_are_in_the_order_of_the_source(tmp_path: Path) -> None:
    windows, expected = har.read_windows(write_npz(tmp_path)), arrays()
    for ours, name in ((windows.x, "X"), (windows.y, "y"), (windows.subject, "subject")):
        np.testing.assert_array_equal(ours, expected[name])


def test_first_60_percent_of_each_activity_of_each_subject(tmp_path: Path) -> None:
    data = arrays()
    data["X"][:, 0] = np.arange(len(data["X"]))  # names the row
    task = har.load_task(write_npz(tmp_path, X=data["X"]))
    first, rest = (part.x[:, 0].astype(int) for part in (task.finetune, task.test))
    assert (np.diff(first) > 0).all()  # the order of the rows is kept
    assert (np.diff(rest) > 0).all()
    for person in FIVE:
        mine = data["subject"] == person
        taken = 0
        for activity in range(6):
            cell = np.flatnonzero(mine & (data["y"] == activity))
            head = np.intersect1d(first, cell)
            np.testing.assert_array_equal(head, cell[: head.size])
            np.testing.assert_array_equal(np.intersect1d(rest, cell), cell[head.size :])
            assert abs(head.size - 0.6 * cell.size) < 1
            taken += head.size
        assert taken == round(0.6 * np.count_nonzero(mine))
    for part, indices in ((task.finetune, first), (task.test, rest)):
        np.testing.assert_array_equal(part.y, data["y"][indices])


def test_60_percent_rounded_over_the_activities_of_a_subject(tmp_path: Path) -> None:
    counts = (52, 49, 42, 50, 45, 50)  # those of the real subject 9: 31.2, 29.4, 25.2, 30, 27, 30
    y = np.repeat(np.arange(6), counts)
    subject = np.repeat([*FIVE, 1], len(y))
    x = np.zeros((subject.size, 561), np.float32)
    task = har.load_task(write_npz(tmp_path, X=x, y=np.tile(y, 6), subject=subject))
    got = np.bincount(task.finetune.labels).tolist()
    assert got == [5 * n for n in (31, 30, 25, 30, 27, 30)]  # not 29: 0.4 is carried to 60.6


def test_names_of_features_are_distinct(tmp_path: Path) -> None:
    names = har.load_task(write_npz(tmp_path)).test.feature_names
    assert names is not None
    assert len(set(names)) == 561
    assert (names[0], names[302], names[330]) == ("f()-0", "303 bands()-1,8", "331 bands()-1,8")


def test_folder_zip_and_nested_zip_equal_the_npz(original: Path, tmp_path: Path) -> None:
    expected = har.load_task(write_npz(tmp_path))
    inside = tmp_path / "download"
    inside.mkdir()
    plain = inside / "UCI HAR Dataset.zip"
    plain.write_bytes(zipped(original))
    nested = write_nested(tmp_path / "human+activity.ZIP", plain.read_bytes())
    bare = tmp_path / "bare.zip"  # without the folder
    shutil.make_archive(str(bare.with_suffix("")), "zip", original)
    for source in (original, original.parent, plain, inside, nested, bare):
        same(har.load_task(source), expected)


def test_line_ends_of_windows(copy: Path, tmp_path: Path) -> None:
    for file in copy.rglob("*.txt"):
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    same(har.load_task(copy), har.load_task(write_npz(tmp_path)))


def test_test_windows_of_other_subjects_are_not_used(copy: Path, tmp_path: Path) -> None:
    def spoil(lines: list[str]) -> None:
        lines[0] = "not of subject 9"

    edit(copy / "test" / "X_test.txt", spoil)
    same(har.load_task(copy), har.load_task(write_npz(tmp_path)))


NINE = int(np.flatnonzero(TEST["subject"] == 9)[0])


def in_line(number: int, old: str | None, new: str) -> Callable[[list[str]], None]:
    """Replace ``old``, or the whole of line ``number`` (from 0), by ``new``."""

    def change(lines: list[str]) -> None:
        lines[number] = new if old is None else lines[number].replace(old, new, 1)

    return change


def column(number: int, place: int, new: str) -> Callable[[list[str]], None]:
    def change(lines: list[str]) -> None:
        words = lines[number].split()
        words[place] = new
        lines[number] = " ".join(words)

    return change


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("train/X_train.txt", column(7, 2, "1.0 2.0"), "line 8 has 562 columns, expected 561"),
        ("train/X_train.txt", column(7, 2, ""), "line 8 has 560 columns"),
        ("train/X_train.txt", in_line(7, None, ""), "line 8 has 0 columns"),
        ("train/X_train.txt", column(7, 2, "abc"), "line 8 column 3 is 'abc', expected a number"),
        (
            "train/X_train.txt",
            column(7, 2, "x" * 99),
            f"column 3 is '{'x' * 28}...{'x' * 28}', expected",
        ),
        ("train/X_train.txt", column(7, 2, "0,5"), "line 8 column 3 is '0,5'"),
        ("train/X_train.txt", column(7, 2, "\0"), "line 8 column 3 is '\\x00'"),
        ("train/X_train.txt", column(7, 2, "NaN"), "line 8 column 3 is NaN, infinite or too"),
        ("train/X_train.txt", column(7, 560, "-inf"), "line 8 column 561 is NaN, infinite"),
        ("train/X_train.txt", column(7, 2, "1e39"), "line 8 column 3 is NaN, infinite or too"),
        ("test/X_test.txt", column(NINE + 1, 4, "nan"), f"line {NINE + 2} column 5 is NaN"),
        ("test/X_test.txt", column(NINE, 4, "?"), f"line {NINE + 1} column 5 is '?'"),
        ("train/y_train.txt", in_line(4, None, "7"), "line 5 is '7', expected an activity code"),
        ("train/y_train.txt", in_line(4, None, "0"), "line 5 is '0'"),
        ("train/y_train.txt", in_line(4, None, "-1"), "line 5 is '-1'"),
        ("train/y_train.txt", in_line(4, None, "1.5"), "line 5 is '1.5'"),
        ("train/y_train.txt", in_line(4, None, "1 2"), "line 5 is '1 2'"),
        ("train/y_train.txt", in_line(4, None, ""), "line 5 is ''"),
        ("train/y_train.txt", in_line(4, None, "²"), "line 5 is '²'"),
        ("test/y_test.txt", in_line(0, None, "9" * 5000), f"line 1 is '{'9' * 28}...{'9' * 28}'"),
        ("train/subject_train.txt", in_line(4, None, "31"), "line 5 is '31', expected a subject"),
        ("test/subject_test.txt", in_line(4, None, "you"), "line 5 is 'you'"),
        ("features.txt", in_line(9, None, "11 name"), "line 10 is '11 name', expected '10 NAME'"),
        ("features.txt", in_line(9, None, "10"), "line 10 is '10'"),
        ("features.txt", lambda lines: lines.pop(), "has 560 lines, expected 561"),
        ("features.txt", lambda lines: lines.append("562 more"), "has 562 lines"),
        ("activity_labels.txt", lambda lines: lines.pop(), "has 5 lines, expected 6"),
        ("activity_labels.txt", in_line(2, "3", "4"), "line 3 is '4 DOWNSTAIRS'"),
    ],
)
def test_damaged_line(
    refused: Refused, copy: Path, name: str, change: Callable[[list[str]], None], said: str
) -> None:
    edit(copy / name, change)
    message = refused(DataError, har.load_task, copy)
    assert message.startswith(f"{copy}: {name} ")
    assert said in message


@pytest.mark.parametrize("part", ["train", "test"])
def test_row_counts_that_disagree(refused: Refused, copy: Path, part: str) -> None:
    n_lines = len((TRAIN if part == "train" else TEST)["y"])
    x, subject = copy / part / f"X_{part}.txt", copy / part / f"subject_{part}.txt"
    whole = x.read_bytes()
    edit(x, lambda lines: lines.append(lines[0]))
    message = refused(DataError, har.load_task, copy)
    assert f"{part}/X_{part}.txt has {n_lines + 1} lines, expected {n_lines}" in message
    x.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    message = refused(DataError, har.load_task, copy)
    assert f"{part}/X_{part}.txt has {n_lines - 1} lines, expected {n_lines}" in message
    x.write_bytes(whole)
    edit(subject, lambda lines: lines.pop())
    message = refused(DataError, har.load_task, copy)
    assert f"{part}/y_{part}.txt has {n_lines} lines and {part}/subject_{part}.txt " in message
    assert f"{n_lines - 1}, expected" in message


@pytest.mark.parametrize("name", har.FILES)
def test_missing_file_is_the_one_named(refused: Refused, copy: Path, name: str) -> None:
    (copy / name).unlink()
    for source in (copy, copy.parent):
        message = refused(FileError, har.load_task, source)
        assert message.startswith(f"{source}: {name} is missing")
    path = copy.parent / "a.zip"
    path.write_bytes(zipped(copy))
    assert f"{path}: {name} is missing" in refused(FileError, har.load_task, path)


def test_file_that_cannot_be_read(
    refused: Refused, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    normal = Path.open

    def deny(path: Path, *args: Any, **options: Any) -> Any:
        if path.name == "X_train.txt":  # chmod would not stop root
            raise PermissionError(13, "Permission denied", str(path))
        return normal(path, *args, **options)

    monkeypatch.setattr(Path, "open", deny)
    message = refused(FileError, har.load_task, copy)
    assert f"cannot read {copy / 'train' / 'X_train.txt'}: Permission denied" in message


def test_empty_file(refused: Refused, copy: Path) -> None:
    for name in ("train/X_train.txt", "train/y_train.txt", "features.txt"):
        (copy / name).write_bytes(b"")
        message = refused(DataError, har.load_task, copy)
        assert f"{name} has 0 lines" in message


def test_activity_names_that_repeat(refused: Refused, copy: Path, tmp_path: Path) -> None:
    edit(copy / "activity_labels.txt", in_line(5, "LAYING", "WALKING"))
    said = "WALKING, UPSTAIRS, DOWNSTAIRS, SITTING, STANDING, WALKING, expected 6 distinct"
    assert said in refused(DataError, har.load_task, copy)
    path = write_npz(tmp_path, activity_names=np.array([*ACTIVITIES[:5], "WALKING"]))
    assert said in refused(DataError, har.load_task, path)


@pytest.mark.parametrize("person", FIVE)
def test_subject_that_is_absent(refused: Refused, copy: Path, person: int) -> None:
    for file in copy.rglob("subject_*.txt"):
        lines = file.read_text().split()
        file.write_text("".join("3\n" if line == str(person) else f"{line}\n" for line in lines))
    message = refused(DataError, har.load_task, copy)
    assert f"{copy}: subject {person} has no rows, expected the subjects 9, 14, 16" in message


def test_part_without_rows(refused: Refused, tmp_path: Path) -> None:
    subject = np.array(FIVE)[np.arange(len(arrays()["y"])) % 5]
    message = refused(DataError, har.load_task, write_npz(tmp_path, subject=subject))
    assert "no rows are left for pretrain" in message
    six = {"X": np.zeros((6, 561)), "y": np.zeros(6, int), "subject": np.array([*FIVE, 1])}
    assert "left for test" in refused(DataError, har.load_task, write_npz(tmp_path, **six))


def test_damaged_zip(refused: Refused, original: Path, tmp_path: Path) -> None:
    whole = zipped(original)
    name = b"UCI HAR Dataset/activity_labels.txt"
    data = whole.index(name) + len(name)
    entry = whole.rindex(name) - 46  # in the table of contents

    def changed(place: int, by: bytes) -> bytes:
        return whole[:place] + by + whole[place + len(by) :]

    spoiled = (
        *(whole[:-100], whole[: len(whole) // 2], b"", b"hello"),
        *(changed(data, b"\xff"), changed(entry + 16, b"crc?")),
        *(changed(entry + 8, b"\1"), changed(entry + 10, b"\x63")),  # encrypted, unknown method
    )
    path = tmp_path / "a.zip"
    for content in spoiled:
        path.write_bytes(content)
        assert f"{path}: the zip is damaged (" in refused(DataError, har.load_task, path)
        write_nested(path, content)
        assert f"{path}: the zip is damaged (" in refused(DataError, har.load_task, path)


def test_zip_of_something_else(refused: Refused, tmp_path: Path) -> None:
    path, inner = tmp_path / "a.zip", io.BytesIO()
    for target in (inner, path):
        with zipfile.ZipFile(target, "w") as archive:
            archive.writestr("fan/train.txt", "0")
    said = f"{path}: the zip has no folder UCI HAR Dataset and no zip of that name"
    assert said in refused(DataError, har.load_task, path)
    write_nested(path, inner.getvalue())
    assert said in refused(DataError, har.load_task, path)
    write_nested(path, write_nested(tmp_path / "b.zip", inner.getvalue()).read_bytes())
    assert said in refused(DataError, har.load_task, path)  # zips in zips are not followed on


def test_damaged_line_in_a_zip(refused: Refused, copy: Path, tmp_path: Path) -> None:
    edit(copy / "train" / "X_train.txt", column(7, 2, "abc"))
    path = tmp_path / "a.zip"
    path.write_bytes(zipped(copy))
    said = f"{path}: train/X_train.txt line 8 column 3 is 'abc'"
    assert said in refused(DataError, har.load_task, path)
    write_nested(path, path.read_bytes())
    assert said in refused(DataError, har.load_task, path)


def test_sources_that_are_no_source(refused: Refused, tmp_path: Path) -> None:
    message = refused(FileError, har.load_task, tmp_path)
    assert f"{tmp_path}: the folder has no har.npz and no UCI HAR Dataset" in message
    for name in ("none", "none.zip", "none.npz"):
        message = refused(FileError, har.load_task, tmp_path / name)
        assert f"cannot read {tmp_path / name}: No such file" in message
    (tmp_path / "X_train.txt").write_text("1 2 3")
    message = refused(DataError, har.load_task, tmp_path / "X_train.txt")
    assert 'got a file with suffix ".txt", expected the folder UCI HAR Dataset' in message


@pytest.fixture(scope="module")
def real(data_folder: Path) -> Path:
    path = data_folder / "har" / "har.npz"
    if not path.is_file():
        pytest.skip(f"the HAR data is not there: put har.npz into {path.parent}")
    return path


def test_real_task(real: Path) -> None:
    task = har.load_task(real)
    assert [part.x.shape for part in task] == [(5894, 561), (1048, 561), (698, 561)]
    for part in task:
        assert part.labels.shape == (len(part.x),)
        assert part.class_names is not None
        assert (part.class_names[0], part.class_names[5]) == ("WALKING", "LAYING")
        assert part.feature_names is not None
        assert len(set(part.feature_names)) == 561
        assert np.abs(part.x).max() <= 1
        assert set(part.labels.tolist()) == set(range(6))
    share = np.bincount(task.finetune.labels) / np.bincount(
        np.concatenate([task.finetune.labels, task.test.labels])
    )
    np.testing.assert_allclose(share, 0.6, atol=0.01)


def test_real_subjects_are_disjoint(real: Path) -> None:
    with np.load(real, allow_pickle=False) as data:
        person = {
            row.tobytes(): int(who) for row, who in zip(data["X"], data["subject"], strict=True)
        }
    assert len(person) == 7640  # no window is there twice, so its bytes name the subject
    task = har.load_task(real)
    who = [{person[row.tobytes()] for row in part.x} for part in task]
    assert who[1] == who[2] == set(FIVE)
    assert who[0] == set(person.values()) - set(FIVE)
    windows = [{row.tobytes() for row in part.x} for part in task]
    assert not windows[1] & windows[2]
