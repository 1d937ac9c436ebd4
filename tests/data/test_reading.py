"""DATA files: what is read, and what each kind of damage is answered with."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sample_files import NAMES, X, Y, refusal, write_npz, write_text
from skip2lora.arrays import check_samples
from skip2lora.data import reading
from skip2lora.data.image_options import Images
from skip2lora.data.reading import read_samples, write_samples
from skip2lora.data.samples import Samples
from skip2lora.errors import DataError, FileError, ParameterError


def test_file_classes_are_renumbered_to_those_of_the_model(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", X=X, y=Y, class_names=np.array(NAMES))
    known = ("damaged", "normal", "stop")
    samples = read_samples(path, class_names=known)
    assert samples.y is not None
    assert (samples.y.tolist(), samples.class_names) == ([2, 0, 1], known)
    assert 'class "damaged", expected only' in refusal(path, class_names=("stop", "normal"))


def test_path_errors(tmp_path: Path) -> None:
    assert "does not exist, expected data" in refusal(tmp_path / "none.csv", FileError)
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    assert "no regular file" in refusal(folder, FileError)
    assert '".yaml"' in refusal(write_text(tmp_path / "a.yaml", "x"))
    assert '".gz"' in refusal(write_text(tmp_path / "a.npz.gz", "x"))
    for suffix in (".npz", ".csv", ".parquet"):
        assert "empty (0 bytes)" in refusal(write_text(tmp_path / f"e{suffix}", ""))


def test_a_label_of_any_length(tmp_path: Path) -> None:
    """Python makes no int of more than 4,300 digits."""
    long = "9" * 5000
    path = write_text(tmp_path / "d.csv", f"a,label\n1,0\n2,{long}\n3,0\n")
    assert read_samples(path).class_names == ("0", long)
    assert read_samples(path).notes == (
        f"{path}: its labels, such as 0, are taken as names of classes",
    )
    write_text(path, f"a,label\n1,-{long}\n2,1\n")
    assert "row 0 (from 0, line 2) has label -inf" in refusal(path)


def test_class_names_must_differ(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", X=X, y=Y)
    with pytest.raises(ParameterError, match="expected distinct names"):
        read_samples(path, class_names=("a", "a"))


def test_importing_is_light() -> None:
    code = (
        "import sys, skip2lora.data, skip2lora.datasets.fan, skip2lora.datasets.simulated;"
        "heavy = {'pooch', 'pyarrow', 'requests', 'pandas', 'torch'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_samples_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    samples = Samples(X, Y, NAMES, ("f", "g"))
    write_samples(path, samples)
    back = read_samples(path)
    np.testing.assert_array_equal(back.x, X)
    assert back.y is not None
    np.testing.assert_array_equal(back.y, Y)
    assert (back.class_names, back.feature_names) == (NAMES, ("f", "g"))
    first = path.read_bytes()
    write_samples(path, samples)
    assert path.read_bytes() == first  # no date inside
    with zipfile.ZipFile(path) as archive:
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.namelist() == ["X.npy", "y.npy", "class_names.npy", "feature_names.npy"]


def test_samples_without_labels_round_trip(tmp_path: Path) -> None:
    write_samples(tmp_path / "a.npz", Samples(X))
    back = read_samples(tmp_path / "a.npz", labels_required=False)
    assert (back.y, back.class_names, back.feature_names) == (None, None, None)


def test_samples_are_written_as_npz_only(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"ends in \.npz"):
        write_samples(tmp_path / "a.csv", Samples(X, Y))
    with pytest.raises(FileError, match="cannot write"):
        write_samples(tmp_path / "none" / "a.npz", Samples(X, Y))


BAD_ROW = 2
TABLE = np.arange(8, dtype=np.float64).reshape(4, 2)


def _as_csv(folder: Path, x: NDArray[Any], y: NDArray[Any]) -> Path:
    rows = "".join(f"{a},{b},{c}\n" for (a, b), c in zip(x, y, strict=True))
    return write_text(folder / "a.csv", f"f,g,label\n{rows}")


def _as_parquet(folder: Path, x: NDArray[Any], y: NDArray[Any]) -> Path:
    arrow = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"f": x[:, 0], "g": x[:, 1], "label": y}), folder / "a.parquet")
    return folder / "a.parquet"


def _as_npz(folder: Path, x: NDArray[Any], y: NDArray[Any]) -> Path:
    return write_npz(folder / "a.npz", X=x, y=y)


@pytest.mark.parametrize("write", [_as_csv, _as_parquet, _as_npz])
@pytest.mark.parametrize("bad", ["nan", "infinity", "label"])
def test_a_row_is_counted_from_0_in_every_file(
    write: Callable[[Path, NDArray[Any], NDArray[Any]], Path], bad: str, tmp_path: Path
) -> None:
    x, y = TABLE.copy(), np.zeros(4)
    if bad == "label":
        y[BAD_ROW] = 0.5
    else:
        x[BAD_ROW, 1] = float(bad)
    with pytest.raises(DataError) as of_array:
        check_samples(x, y)
    assert f"row {BAD_ROW}" in str(of_array.value)
    assert "(from 0)" in str(of_array.value)
    message = refusal(write(tmp_path, x, y))
    assert f"row {BAD_ROW} (from 0" in message
    assert ("line 4" in message) == (write is _as_csv)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(5, "Input/output error"), "Input/output error"),
        (MemoryError("no 9 GB"), "does not fit into memory (no 9 GB), expected less"),
        (FileError("a.csv is a stranger"), "a.csv is a stranger"),
    ],
)
def test_what_the_system_refuses_while_a_file_is_read(
    error: Exception, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reader(*_: Any) -> Any:
        raise error

    monkeypatch.setitem(reading._READERS, ".csv", reader)
    assert said in refusal(write_text(tmp_path / "a.csv", "x,label\n1,a\n"), FileError)


def test_options_of_images_are_for_images(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.csv", "x,label\n1,a\n")
    with pytest.raises(ParameterError, match=r"are given for .*a\.csv, expected a folder"):
        read_samples(path, images=Images(bits=12))
    assert len(read_samples(path, images=Images()).x) == 1
