"""``predict --follow``: rows on standard input or a pipe, a line a window once it is whole."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from desk import Answer, refused
from sensor_data import table, walk_run_sit

Type = Callable[..., Answer]
ASKED = ("--window", 50, "--hop", 25, "--features", "statistics", "--group", "user,session")
FOLLOW = ("predict", "m.safetensors", "-", "--adapter", "a", "--follow")


@pytest.fixture
def field(type_in: Type, tmp_path: Path) -> Path:
    """A network with an adapter for streams, and others."""
    walk_run_sit(tmp_path / "field.csv", users=3)
    walk_run_sit(tmp_path / "others.csv", users=1, seed=500)
    words = ("--hidden", "16", "--epochs", 20, "-o", "m.safetensors")
    assert type_in("pretrain", "field.csv", *ASKED, *words).code == 0
    assert type_in("adapt", "m.safetensors", "field.csv", *ASKED, "-o", "a").code == 0
    return tmp_path


@pytest.fixture
def send(type_in: Type, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """``send(content, *words)``: the command with that on standard input."""

    def send_to(content: bytes, *words: object) -> Answer:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
        return type_in(*(words or FOLLOW))

    return send_to


def test_lines_are_the_rows_of_predict(field: Path, type_in: Type, send: Type) -> None:
    content = (field / "others.csv").read_bytes()
    assert type_in("predict", "m.safetensors", "others.csv", "--adapter", "a", "-o", "p").code == 0
    expected = list(csv.DictReader((field / "p").read_text().splitlines()))
    answer = send(content)
    assert answer.code == 0, answer.err
    rows = list(csv.DictReader(answer.out.splitlines()))
    assert rows == [
        {name: row[name] for name in row if name not in ("file", "true")} for row in expected
    ]
    assert len(rows) == 21
    assert "21 windows, told" in answer.err
    assert "ms after the last row in the median" in answer.err
    as_json = send(content, *FOLLOW, "--json")
    said = [json.loads(line) for line in as_json.out.splitlines()]
    assert [each["name"] for each in said] == [row["name"] for row in rows]
    assert said[1]["start"] == 1700000000.5
    assert said[3]["p_walk"] == pytest.approx(float(rows[3]["p_walk"]))


def test_bad_lines_are_counted(field: Path, send: Type) -> None:
    lines = (field / "others.csv").read_bytes().splitlines()
    whole = send(b"\n".join(lines))
    bad = [*lines[:70], b"garbage", *lines[70:90], b"\xff\xfe,,", *lines[90:]]
    answer = send(b"\n".join(bad))
    assert (answer.code, answer.out) == (0, whole.out)
    assert "2 of 602 lines left out as no rows (the first, line 71: " in answer.err
    assert '"garbage" has 1 cells, expected 7' in answer.err


def test_none_of_these_and_names_of_columns(field: Path, send: Type) -> None:
    rows = list(csv.DictReader((field / "others.csv").read_text().splitlines()))[:60]
    names = ["az", "timestamp", "ax", "ay"]
    table(field / "bare.csv", {name: [row[name] for row in rows] for name in names})
    bare = (field / "bare.csv").read_bytes().partition(b"\n")[2]
    words = (*FOLLOW, "--channels", ",".join(names), "--threshold", "1.0", "--json")
    answer = send(bare, *words)
    assert answer.code == 0, answer.err
    (said,) = map(json.loads, answer.out.splitlines())
    assert "no column of times" not in answer.err
    assert (said["prediction"], said["name"]) == (None, "none of these")
    refused(send(bare), "expected names of columns", "--channels")
    table(field / "bare.csv", {name: [row[name] for row in rows] for name in ("ax", "ay", "az")})
    answer = send((field / "bare.csv").read_bytes())
    assert answer.code == 0, answer.err
    assert "it has no column of times, its rows are taken as at 50 Hz" in answer.err


@pytest.mark.parametrize(
    ("content", "words", "said"),
    [
        (b"", (), "standard input"),
        (b"ax,ay,az\n1,2,3\n", (), "had 1 rows and 0 that are none"),
        (b"timestamp,ax,ay,az\n" + b"x\n" * 9, (), "had 0 rows and 9 that are none"),
        (b"timestamp,ax,ay,az\n" + b"0,1,2,3\n" * 9, (), "stand still"),
        (b"timestamp,ax,ay\n0,1,2\n", (), 'names "az"'),
        (b"", ("-o", "p.csv"), "expected none: leave --output out"),
        (b"", ("--crop", "slide"), "got options of recordings"),
        (b"", ("--window", "40"), "--window is 40, the model learned with 50"),
    ],
)
def test_what_cannot_be_followed(
    content: bytes, words: tuple[str, ...], said: str, field: Path, send: Type
) -> None:
    answer = send(content, *FOLLOW, *words)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert not (field / "p.csv").exists()


def test_without_follow_an_output_is_needed(field: Path, type_in: Type) -> None:
    refused(type_in("predict", "m.safetensors", "others.csv", "--adapter", "a"), "-o")


def test_a_pipe_is_read_as_it_comes_and_stopped(field: Path) -> None:
    """A window's line is there while the sender still holds the pipe open; then Ctrl-C."""
    os.mkfifo(field / "device")
    process = subprocess.Popen(
        [sys.executable, "-m", "skip2lora", "predict", "m.safetensors", "device", "--adapter", "a",
         "--follow", "--json"],
        cwd=field, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    lines = (field / "others.csv").read_text().splitlines(keepends=True)
    with (field / "device").open("w") as sender:
        sender.write("".join(lines[:51]))
        sender.flush()
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["row"] == 0
        sender.write("".join(lines[51:76]))
        sender.flush()
        assert json.loads(process.stdout.readline())["row"] == 1
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "2 windows, told" in said
    assert "stopped by Ctrl-C, a table of 2 lines was written" in said


def test_a_reader_that_goes_is_no_fault_of_the_device(field: Path) -> None:
    """As of ``head -1``: the device could be read."""
    os.mkfifo(field / "device")
    process = subprocess.Popen(
        [sys.executable, "-m", "skip2lora", "predict", "m.safetensors", "device", "--adapter", "a",
         "--follow"],
        cwd=field, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    lines = (field / "others.csv").read_text().splitlines(keepends=True)
    with (field / "device").open("w") as sender:
        sender.write("".join(lines[:51]))
        sender.flush()
        assert process.stdout is not None
        assert process.stdout.readline().startswith("row,")
        process.stdout.close()
        sender.write("".join(lines[51:301]))
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) != 2
    assert "cannot read device" not in said
