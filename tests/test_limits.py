"""Reading costs no more than a stated limit, and waits for nothing."""

from __future__ import annotations

import gzip
import os
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import skip2lora as s2
from skip2lora import limits
from skip2lora.data.image_options import Images
from skip2lora.data.reading import read_table
from skip2lora.errors import FileError, ParameterError
from skip2lora.limits import VARIABLE, check_bytes, check_file, is_folder, max_bytes, shortened

Refused = Callable[..., str]


def test_the_limit_is_told_or_half_of_the_memory(monkeypatch, refused: Refused) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < max_bytes() <= memory // 2
    monkeypatch.setenv(VARIABLE, "1000")
    assert max_bytes() == 1000
    check_bytes("it", 1000)
    assert VARIABLE in refused(FileError, check_bytes, "it", 1001)


@pytest.mark.parametrize(
    ("container", "space", "expected"),
    [
        ("max", resource.RLIM_INFINITY, 2_048_000), ("1000001", resource.RLIM_INFINITY, 500_000),
        ("max", 300_000, 150_000), ("9000000", 5_000_000, 2_048_000), ("", 4_000_000, 2_000_000),
    ],
)  # fmt: skip
def test_what_a_process_may_have_is_less(
    container: str, space: int, expected: int, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "second").write_text(f"{container}\n")
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(limits, "_CONTAINER", (str(tmp_path / "none"), str(tmp_path / "second")))
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.get)
    monkeypatch.setattr(resource, "getrlimit", {resource.RLIMIT_AS: (space, 7)}.get)
    assert max_bytes() == expected


def test_what_is_too_large_is_told_in_megabytes(monkeypatch, refused: Refused) -> None:
    monkeypatch.setenv(VARIABLE, "1400000")
    said = refused(FileError, check_bytes, "a.npz", 12_345_678_901)
    assert said.startswith("a.npz takes 12,346 MB of memory or more, expected at most 1 MB: ")
    for unit, words in ((10**12, "1,000,000 MB"), (2_500_000, "2 MB"), (3_500_000, "4 MB")):
        monkeypatch.setenv(VARIABLE, str(unit))
        said = refused(FileError, check_bytes, "a.npz", 10**13)
        assert f" takes 10,000,000 MB of memory or more, expected at most {words}: " in said
    monkeypatch.setenv(VARIABLE, "9" * 19)
    assert max_bytes() == int("9" * 19)


def test_a_long_path_is_cut_in_its_middle() -> None:
    path = "".join(chr(97 + at % 26) for at in range(301))
    assert shortened(path[:300]) == path[:300]
    assert shortened(path) == f"{path[:148]}...{path[-148:]}"


@pytest.mark.parametrize("text", ["", "0", "-1", "1e9", "2 GB", "9" * 30, "\u0663"])
def test_a_limit_that_is_no_number(text: str, monkeypatch, refused: Refused) -> None:
    monkeypatch.setenv(VARIABLE, text)
    assert "whole number of bytes" in refused(ParameterError, max_bytes)


def test_what_is_no_file(tmp_path: Path, refused: Refused) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("link")
    for name in ("pipe", "."):
        assert "is no regular file" in refused(FileError, check_file, tmp_path / name, "a thing")
    assert "does not exist, expected a thing" in refused(FileError, check_file, "none", "a thing")
    for path in (tmp_path / ("x" * 5000), tmp_path / "link"):
        message = refused(FileError, check_file, path, "a thing")
        assert len(message) < 600
    assert "too long" in refused(FileError, is_folder, "x" * 5000)
    assert is_folder(tmp_path)


@pytest.mark.parametrize(
    "suffix", [".npz", ".csv", ".tsv", ".parquet", ".png", ".onnx", ".tflite", ".xml",
               ".safetensors"],
)  # fmt: skip
def test_no_reader_waits_for_a_pipe(suffix: str, tmp_path: Path, refused: Refused) -> None:
    pipe = tmp_path / f"pipe{suffix}"
    os.mkfifo(pipe)
    read = read_table if suffix in (".npz", ".csv", ".tsv", ".parquet", ".png") else s2.load
    assert "no regular file" in refused(FileError, read, pipe)


def test_arrays_that_nobody_asked_for_cost_nothing(
    tmp_path: Path, monkeypatch, refused: Refused
) -> None:
    path = tmp_path / "d.npz"
    x, y = np.ones((40, 6), np.float32), np.arange(40) % 3
    np.savez_compressed(path, X=x, y=y, other=np.zeros(10**6, np.float64))
    monkeypatch.setenv(VARIABLE, "10000")
    assert read_table(path).x.tolist() == x.tolist()
    np.savez_compressed(path, X=np.zeros((40, 6000), np.float32), y=y)
    assert "takes 1 MB of memory or more" in refused(FileError, read_table, path)


def test_a_packed_table_costs_no_more(tmp_path: Path, monkeypatch, refused: Refused) -> None:
    path = tmp_path / "d.csv.gz"
    path.write_bytes(gzip.compress(b"a,b,label\n" + b"1,2,0\n3,4,1\n" * 10**5))
    assert path.stat().st_size < 10_000
    monkeypatch.setenv(VARIABLE, "100000")
    assert f"{path} takes 0 MB of memory or more" in refused(FileError, read_table, path)


def test_one_long_answer_makes_all_long(tmp_path: Path, monkeypatch, refused: Refused) -> None:
    path = tmp_path / "d.csv"
    path.write_text("a,label\n1," + "x" * 2000 + "\n2,y\n" * 500)
    monkeypatch.setenv(VARIABLE, "2000000")
    assert "takes 4 MB of memory or more" in refused(FileError, read_table, path)


def test_a_parquet_of_one_value_a_million_times(
    tmp_path: Path, monkeypatch, refused: Refused
) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "d.parquet"
    parquet.write_table(pyarrow.table({"a": np.zeros(10**6, "f"), "label": [0] * 10**6}), path)
    assert path.stat().st_size < 100_000
    monkeypatch.setenv(VARIABLE, "1000000")
    assert "takes 4 MB of memory or more" in refused(FileError, read_table, path)


def test_images_of_any_size(tmp_path: Path, monkeypatch, refused: Refused) -> None:
    pillow = pytest.importorskip("PIL.Image")
    pillow.new("L", (3000, 3000)).save(tmp_path / "large.png")
    pillow.new("L", (8, 8)).save(tmp_path / "small.png")
    monkeypatch.setenv(VARIABLE, "1000000")
    read = partial(read_table, tmp_path, labels_required=False)
    table = read(images=Images(size=(8, 8)))
    assert len(table.x) == 1
    assert "large.png takes 36 MB of memory or more" in str(table.notes)
    monkeypatch.setattr("skip2lora.data.image_files.READ_BYTES", 1)  # more are not asked about
    large = read(images=Images(size=(800, 800))).x
    assert "takes 3 MB of memory" in refused(FileError, large.read)
