"""``.npz`` files: what is read of them, and what each kind of damage is answered with."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sample_files import NAMES, X, Y, refusal, write_npz
from skip2lora.arrays import Inputs
from skip2lora.data.reading import check_samples, read_samples, read_table
from skip2lora.errors import DataError
from skip2lora.tasks.task import TASKS


def test_npz(tmp_path: Path) -> None:
    path = write_npz(
        tmp_path / "a.npz", X=X.astype(np.float64), y=Y.astype(np.float64), names=np.array(NAMES),
        feature_names=np.array(["f", "g"]),
    )  # fmt: skip
    samples = read_samples(path)
    np.testing.assert_array_equal(samples.x, X)
    assert samples.x.dtype == np.float32
    assert samples.y is not None
    assert samples.y.tolist() == [0, 2, 1]
    assert samples.y.dtype == np.int64
    assert samples.class_names == NAMES
    assert samples.feature_names == ("f", "g")


def test_npz_class_names_win_over_names(tmp_path: Path) -> None:
    path = write_npz(
        tmp_path / "a.npz", X=X, y=Y, names=np.array(["p", "q", "r"]), class_names=np.array(NAMES)
    )
    assert read_samples(path).class_names == NAMES


def test_npz_with_text_labels_or_none(tmp_path: Path) -> None:
    text = write_npz(tmp_path / "a.npz", X=X, y=np.array(["go", "stop", "go"]))
    samples = read_samples(text)
    assert samples.y is not None
    assert (samples.y.tolist(), samples.class_names) == ([0, 1, 0], ("go", "stop"))
    bare = write_npz(tmp_path / "b.npz", X=X)
    assert read_samples(bare, labels_required=False).y is None
    assert read_samples(bare, labels_required=False, class_names=NAMES).class_names == NAMES


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"data": X, "y": Y}, "arrays of data, y, expected the samples as X"),
        ({"X": X[0], "y": Y}, "shape (2,)"),
        ({"X": X[:0], "y": Y[:0]}, "0 samples and 2 features"),
        ({"X": X[:, :0], "y": Y}, "3 samples and 0 features"),
        ({"X": X.astype(str), "y": Y}, "X is <U"),
        ({"X": X.astype(complex), "y": Y}, "X is complex128"),
        ({"X": X}, "arrays X, expected the answers as y"),
        ({"X": X, "y": Y[:2]}, "labels have shape (2,), X has 3 samples"),
        ({"X": X, "y": np.eye(3)[Y]}, "answers have shape (3, 3)"),
        ({"X": X, "y": Y + 0.5}, "row 0 (from 0) has label 0.5"),
        ({"X": X, "y": Y - 1}, "row 0 (from 0) has label -1"),
        ({"X": X, "y": Y, "class_names": np.array(["a", "b"])}, "row 1 (from 0) has label 2"),
        ({"X": X, "y": Y, "class_names": np.array(["a", "b", "a"])}, "distinct names"),
        ({"X": X, "y": Y, "class_names": np.arange(3)}, "class_names is int64"),
        ({"X": X, "y": Y, "feature_names": np.array(["a"])}, "2 distinct names"),
        ({"X": X * np.array([1, np.nan]), "y": Y}, "3 values are NaN"),
        ({"X": X.astype(float) * 1e300, "y": Y}, "the first in row 0 (from 0), column 0"),
    ],
)  # fmt: skip
def test_npz_refused(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    assert said in refusal(write_npz(tmp_path / "a.npz", **arrays))


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32])
def test_npz_with_more_axes_keeps_its_whole_numbers(tmp_path: Path, kind: Any) -> None:
    images = np.arange(3 * 2 * 4 * 5).reshape(3, 2, 4, 5).astype(kind)
    samples = read_samples(write_npz(tmp_path / "a.npz", X=images, y=Y, feature_names=Y))
    assert samples.x.dtype == kind
    np.testing.assert_array_equal(samples.x, images)
    assert samples.feature_names is None
    doubles = read_samples(write_npz(tmp_path / "b.npz", X=images.astype(np.float64), y=Y))
    assert doubles.x.dtype == np.float32


def test_npz_of_several_inputs(tmp_path: Path) -> None:
    ids, mask = np.arange(12).reshape(3, 4), np.ones((3, 4))
    path = write_npz(tmp_path / "a.npz", ids=ids, mask=mask, label=Y, class_names=np.array(NAMES))
    samples = read_samples(path)
    assert isinstance(samples.x, Inputs)
    assert list(samples.x.arrays) == ["ids", "mask"]
    np.testing.assert_array_equal(samples.x.arrays["ids"], ids)
    assert samples.x.arrays["ids"].dtype == np.int64
    assert samples.x.arrays["mask"].dtype == np.float32
    assert (samples.labels.tolist(), samples.class_names) == (Y.tolist(), NAMES)
    with pytest.raises(DataError, match=r"several arrays \(ids, mask\), the model takes one table"):
        check_samples(samples.x)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"a": X, "b": X[:2]}, "different numbers of samples (a 3, b 2)"),
        ({"a": X, "b": X.astype(str)}, "b is <U"),
        ({"a": X, "b": np.float32(1)}, "b is float32 of shape ()"),
        ({"a": X, "b": X * np.nan}, "b: 6 values are NaN"),
        ({"a": X, "b": X[:, :0]}, "b: it has 3 samples and 0 features"),
        ({"a": X[:2], "b": X[:2]}, "labels have shape (3,), X has 2 samples"),
    ],
)
def test_npz_of_several_inputs_refused(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    assert said in refusal(write_npz(tmp_path / "a.npz", **arrays, y=Y))


def test_npz_with_more_axes_refused(tmp_path: Path) -> None:
    x = np.zeros((3, 2, 4), np.float32)
    x[1, 1, 3] = np.nan
    said = refusal(write_npz(tmp_path / "a.npz", X=x, y=Y))
    assert "1 value is NaN, infinite or too large, the first in row 1 (from 0), column 7" in said
    assert "shape (3, 0, 4)" in refusal(write_npz(tmp_path / "b.npz", X=x[:, :0], y=Y))


class Boom:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return (print, ("a pickle was run",))


def test_npz_never_runs_a_pickle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, X=np.array([[Boom()]], object), y=np.array([0]))
    assert "X is an array of Python objects" in refusal(path)
    path.write_bytes(pickle.dumps(Boom()))
    assert "damaged or no .npz" in refusal(path)
    assert capsys.readouterr().out == ""


def test_npz_damaged(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", X=np.zeros((50, 20), np.float32), y=np.zeros(50, int))
    whole = path.read_bytes()
    for content in (
        whole[:-30],
        whole[: len(whole) // 2],
        whole[:3],
        b"PK\x03\x04",
        b"hello there",
    ):
        path.write_bytes(content)
        assert "damaged or no .npz" in refusal(path)
    changed = bytearray(whole)
    changed[2000] ^= 1
    path.write_bytes(changed)
    assert "CRC" in refusal(path)
    np.save(tmp_path / "b.npy", X)
    single = (tmp_path / "b.npy").rename(tmp_path / "b.npz")
    assert "arrays of no name" in refusal(single)


def test_npz_that_claims_more_than_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 1000000000), }"
    header = header.ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X.npy", b"\x93NUMPY\x01\x00" + bytes([len(header), 0]) + header)
    assert "damaged or no .npz" in refusal(path)


@pytest.mark.parametrize("name", ["label", "labels", "target", "targets", "y"])
def test_usual_names_of_answers(tmp_path: Path, name: str) -> None:
    samples = read_samples(write_npz(tmp_path / "a.npz", X=X, **{name: Y}))
    assert samples.labels.tolist() == Y.tolist()
    assert read_samples(write_npz(tmp_path / "b.npz", X=X, y=Y[:, None])).labels.shape == Y.shape


def test_names_of_several_answers_and_of_one(tmp_path: Path) -> None:
    """The array's own name says nothing where it is the only one."""
    path = write_npz(tmp_path / "a.npz", X=X, mass=Y + 0.5, heat=Y)
    for target, names in [(("mass",), None), (("mass", "heat"), ("mass", "heat"))]:
        assert read_table(path, target=target).answers.column_names == names
    path = write_npz(tmp_path / "b.npz", X=X, y=Y + 0.5, target_names=np.array(["mass"]))
    assert read_table(path).answers.column_names == ("mass",)


@pytest.mark.parametrize("name", ["y", "X", "class_names"])
def test_arrays_of_objects_are_named(tmp_path: Path, name: str) -> None:
    arrays: dict[str, Any] = {"X": X, "y": Y}
    arrays[name] = np.array(["a", "b", "c"], object)
    assert f"{name} is an array of Python objects" in refusal(
        write_npz(tmp_path / "a.npz", **arrays)
    )


def test_texts_that_hold_no_characters_are_damaged(tmp_path: Path) -> None:
    """Code points from D800 to DFFF and beyond 10FFFF, which Python's text cannot have."""
    for code, damaged in ((0xD7FF, 0), (0xD800, 1), (0xDFFF, 1), (0xE000, 0), (0x10FFFF, 0),
                          (0x110000, 1)):  # fmt: skip
        labels = np.array([code, 97, 98], np.uint32).view("<U1")
        path = write_npz(tmp_path / "a.npz", X=X, y=labels)
        if damaged:
            assert f"y has {hex(code)}, no character" in refusal(path)
        else:
            assert chr(code) in read_samples(path).class_names


def test_several_answers_of_other_lengths(tmp_path: Path) -> None:
    task = TASKS["regression"]
    path = write_npz(tmp_path / "a.npz", X=X, a=np.arange(3.0), b=np.arange(3.0) * 2)
    made = read_samples(path, target=("b", "a"), task=task)
    assert made.labels.tolist() == [[0, 0], [2, 1], [4, 2]]
    for other in (np.arange(2.0), np.zeros((3, 1))):
        path = write_npz(tmp_path / "b.npz", X=X, a=np.arange(3.0), b=other)
        said = refusal(path, target=("a", "b"), task=task)
        assert f"b has shape {other.shape}, expected (3,), one answer a sample" in said
