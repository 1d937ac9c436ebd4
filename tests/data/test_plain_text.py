"""Large plain tables: pyarrow's reader gives what ours gives, or is not asked."""

from __future__ import annotations

import builtins
import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skip2lora.data import plain_text
from skip2lora.data.reading import read_table
from skip2lora.data.text import Dialect, TextTable
from skip2lora.errors import DataError

pytest.importorskip("pyarrow.csv", reason="the extra 'parquet' is not installed")


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Every file is large enough; whether pyarrow read each is noted."""
    monkeypatch.setattr(plain_text, "LEAST_BYTES", 0)
    used: list[bool] = []

    read = plain_text.plain_values

    def noted(*of: Any, **options: Any) -> Any:
        values = read(*of, **options)
        used.append(values is not None)
        return values

    monkeypatch.setattr(plain_text, "plain_values", noted)
    return used


def outcome(path: Path, **options: Any) -> Any:
    """What is read, to the bit, or what is said."""
    try:
        table = read_table(path, **options)
    except DataError as error:
        return str(error)
    values = table.answers.values
    answers = None if values is None else (values.tolist(), values.dtype)
    places = [table.answers.place(row) for row in range(len(table.x))]
    aside = {name: column.tolist() for name, column in table.aside.items()}
    return table.x.tobytes(), table.x.shape, answers, places, table.notes, aside


PLAIN = {
    "numbers": b"f,g,label\n1,2.5,0\n-.5,1e-3,1\n+7.,1E+5,0\n",
    "spaces": b"f,g,label\n 1,2.5 , stop\n3, 4,go \n",
    "no line break at the end": b"f,label\n1,0\n2,1",
    "windows": b"f,label\r\n1,0\r\n2,1\r\n",
    "quoted header": b'"f","label"\n1,a\n2,b\n',
    "quoted classes": b'f,label\n1,"a"\n2,b\n3,"c, d"\n4,"say ""e"""\n5,"""f"""\n6," g "\n',
    "all quoted": b'"f";"label"\r\n"1,5";"a;b"\r\n" 2 ";"c"',
    "quoted numbers between commas": b'f,label\n1,"a,1"\n"2",b\n"-3e1","4"\n',
    "byte order mark": b"\xef\xbb\xbff,label\n1,a\n2,b\n",
    "names of any script": "f,label\n1,\u00e4\n2,\u96ea\n".encode(),
    "semicolons and commas": b"f;g;label\n1,5;2;0\n3,25;4,5;1\n",
    "tabs": b"f\tg\tlabel\n1\t2.5\ta\n3\t4\tb\n",
    "tiny and huge": b"f,label\n5e-324,0\n1e-400,1\n3.4e38,0\n12345678901234567890123456789,1\n",
    "all digits": b"f,label\n0.1,0\n0.30000000000000004,1\n2.2250738585072011e-308,0\n",
}
OTHER = {
    "a space before a quotation mark": b'f,label\n1, "a"\n2,b\n',
    "a quotation mark in a cell": b'f,label\n1,5" pipe\n2,6" pipe\n',
    "a pair of them in a cell": b'f,label\n1,a "b"\n2,c\n',
    "a line break in the last cell": b'f,label\n1,a\n2,"b\n"\n',
    "line breaks in cells": b'f,label\n1,"a\nb"\n2,c\n',
    "blank lines": b"f,label\n1,0\n\n2,1\n",
    "an empty row": b"f,label\n1,0\n,\n",
    "empty cells at the end": b"f,label\n1,0,\n2,1,\n",
    "a comment": b"# made today\nf,label\n1,0\n2,1\n",
    "a separator": b"sep=;\nf;label\n1;0\n2;1\n",
    "units": b"f,g,label\nm,s,\n1,2,0\n3,4,1\n",
    "carriage returns": b"f,label\r1,0\r2,1\r",
    "words": b"f,label\ntrue,0\nfalse,1\n",
    "windows-1252": b"f,label\n1,\xe4\n2,b\n",
    "utf-16": "f,label\n1,a\n2,b\n".encode("utf-16"),
    "an ignored column that is no utf-8": b"f,t,label\n1,\xe4,0\n2,b,1\n",
}
BAD = {
    "text": b"f,label\n1,0\nabc,1\n",
    "underscore": b"f,label\n1,0\n1_0,1\n",
    "hexadecimal": b"f,label\n1,0\n0x10,1\n",
    "nothing": b"f,label\n1,0\n,1\n",
    "not a number": b"f,label\n1,0\nnan,1\n",
    "a strange one": b"f,label\n1,0\nnan(1),1\n",
    "infinity": b"f,label\n1,0\n-inf,1\n",
    "too large": b"f,label\n1,0\n1e39,1\n1e400,1\n",
    "too many cells": b"f,label\n1,0\n1,2,3\n",
    "too few cells": b"f,g,label\n1,2,0\n1,2\n",
    "no answer": b"f,label\n1,0\n2,\n",
    "missing answer": b"f,label\n1,0\n2,n/a\n",
    "NUL": b"f,label\n1,0\n2,\0\n",
    "thousands": b'f,label\n1,0\n"1,000",1\n',
    "an empty quoted number": b'f,label\n1,a\n"",b\n',
    "an empty quoted answer": b'f,label\n1,a\n2,""\n',
    "text behind a quotation mark": b'f,label\n1,"a"b\n2,c\n',
    "a space behind a quotation mark": b'f,label\n1,"a" \n2,c\n',
    "a quotation mark that stays open": b'f,label\n1,"a\n2,c\n',
    "another decimal": b"f;g;label\n1,5;2;0\n3.25;4,5;1\n",
}


@pytest.mark.parametrize("content", PLAIN.values(), ids=PLAIN)
def test_plain_tables_are_read_by_pyarrow_to_the_same_bits(
    content: bytes, plain: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    fast = outcome(path)
    assert plain == [True]
    monkeypatch.setattr(plain_text, "LEAST_BYTES", 1 << 60)
    assert outcome(path) == fast
    assert not isinstance(fast, str)


@pytest.mark.parametrize("content", [*OTHER.values(), *BAD.values()], ids=[*OTHER, *BAD])
def test_what_is_not_plain_is_read_and_refused_as_ever(
    content: bytes, plain: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    options = {"ignore": ("t",)} if b",t," in content else {}
    first = outcome(path, **options)
    assert True not in plain
    monkeypatch.setattr(plain_text, "LEAST_BYTES", 1 << 60)
    assert outcome(path, **options) == first
    assert isinstance(first, str) == (content in BAD.values())


def test_another_encoding_far_below(
    plain: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a column that is left out, below the lines by which the table is understood."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"f,t,label\n" + b"1,a,0\n2,b,1\n" * 6000 + b"3,\xe4,1\n")
    first = outcome(path, ignore=("t",))
    assert plain == [False]
    assert first[4] == (f"{path}: its text is read as Windows-1252, not UTF-8",)
    monkeypatch.setattr(plain_text, "LEAST_BYTES", 1 << 60)
    assert outcome(path, ignore=("t",)) == first


def test_answers_that_may_be_missing_and_columns_aside(plain: list[bool], tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"who,f,label\nann,1,\nbob,2,go\nann,3,NA\n")
    table = read_table(path, labels_required=False, aside={"group": "who"})
    assert table.answers.values.tolist() == ["", "go", ""]
    assert table.aside["group"].tolist() == ["ann", "bob", "ann"]
    assert table.x.tolist() == [[1], [2], [3]]
    assert plain == [True]


def random_table(seed: int) -> bytes:
    random = np.random.default_rng(seed)
    spelled: list[Callable[[float], str]] = [
        repr, str, "{:.3f}".format, "{:e}".format, "{:.17g}".format, "{:+.1f}".format,
    ]  # fmt: skip
    lines = ["a,b,c,label"]
    for row in range(300):
        cells = random.normal(size=3) * 10.0 ** random.integers(-30, 30, 3)
        words = [spelled[random.integers(len(spelled))](float(cell)) for cell in cells]
        lines.append(",".join([*words, "xyz"[row % 3]]))
    return ("\n".join(lines) + "\n").encode()


@pytest.mark.parametrize("seed", range(3))
def test_numbers_of_every_spelling_have_the_same_bits(
    seed: int, plain: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_text, "_BLOCK_BYTES", 1 << 10)  # several
    path = tmp_path / "a.csv"
    path.write_bytes(random_table(seed))
    fast = outcome(path)
    assert plain == [True]
    monkeypatch.setattr(plain_text, "LEAST_BYTES", 1 << 60)
    assert outcome(path) == fast


CLASSES = (
    "stop",
    "go on",
    "a,b",
    "a;b",
    "a|b",
    "a\tb",
    'say "e"',
    '"',
    '""',
    " g ",
    "\u96ea",
    "5",
    "-",
)
DAMAGES = (
    lambda line, d: line + d,
    lambda line, d: line + d + "7",
    lambda line, d: line.partition(d)[2],
    lambda line, d: line.replace(d, f"{d} ", 1),
    lambda line, d: line.replace(d, f" {d}", 1),
    lambda line, d: line.replace('"', "", 1),
    lambda line, d: line.replace(d, f'"{d}', 1),
    lambda line, d: line.replace(d, f'{d}"', 1),
    lambda line, d: line.replace("a", "a\n"),
    lambda line, d: line.replace("a", "a\r"),
    lambda line, d: line + '"',
    lambda line, d: f'"{line}',
    lambda line, d: line + "\n",
    lambda line, d: f'""{d}{line}',
    lambda line, d: d.join(['""'] * (1 + line.count(d))),
    lambda line, d: d.join([""] * (1 + line.count(d))),
    lambda line, d: line.replace("1", "nan"),
    lambda line, d: line.replace("1", "x"),
    lambda line, d: "# " + line,
)  # fmt: skip


def quoted(cell: str, always: bool, delimiter: str) -> str:
    if always or any(each in cell for each in (delimiter, '"', "\n")):
        return '"' + cell.replace('"', '""') + '"'
    return cell


def any_table(random: np.random.Generator) -> tuple[bytes, bool]:
    """Some table in quotation marks, and whether it is sound."""
    delimiter = str(random.choice([",", ";", "\t", "|"]))
    decimal = "," if delimiter == ";" and random.random() < 0.7 else "."
    of_header, of_numbers, of_answers = random.random(3) < (0.7, 0.4, 0.7)
    names = ["f", "g h", f"i{delimiter}j", "label"]
    lines = [delimiter.join(quoted(name, of_header, delimiter) for name in names)]
    for _ in range(random.integers(2, 9)):
        numbers = [f"{each:.4g}".replace(".", decimal) for each in random.normal(10, 5, 3)]
        cells = [quoted(cell, of_numbers, delimiter) for cell in numbers]
        answer = quoted(str(random.choice(CLASSES)), of_answers, delimiter)
        lines.append(delimiter.join([*cells, answer]))
    sound = random.random() < 0.5
    if not sound:
        at = random.integers(len(lines))
        lines[at] = DAMAGES[random.integers(len(DAMAGES))](lines[at], delimiter)
    end = str(random.choice(["\n", "\r\n"]))
    text = end.join(lines) + end * int(random.random() < 0.8)
    return b"\xef\xbb\xbf" * int(random.random() < 0.3) + text.encode(), sound


@pytest.mark.parametrize("seed", range(6))
def test_quoted_tables_of_any_kind_are_read_as_ever(
    seed: int, plain: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(seed)
    path = tmp_path / "a.csv"
    for _ in range(60):
        content, sound = any_table(random)
        path.write_bytes(content)
        monkeypatch.setattr(plain_text, "LEAST_BYTES", 0)
        monkeypatch.setattr(plain_text, "_BLOCK_BYTES", int(random.choice([64, 1 << 20])))
        plain.clear()
        fast = outcome(path)
        is_plain = plain == [True]
        monkeypatch.setattr(plain_text, "LEAST_BYTES", 1 << 60)
        assert outcome(path) == fast, content
        if sound and len(content) < plain_text._BLOCK_BYTES and not isinstance(fast, str):
            assert is_plain, content


@pytest.mark.parametrize(
    ("lines", "expected"),
    [(b'1,"a"\n"2",b\n', True), (b'"""",""\n', True), (b'"a\nb",1\n', False), (b'"a",1\n"b', False),
     (b'"a,1\n"b,2\n', False), (b'1,"a" \n', False), (b'1, "a"\n', False), (b'1;"a"\n', False)],
)  # fmt: skip
def test_what_is_no_cell_is_seen_before_it_is_read(lines: bytes, expected: bool) -> None:
    assert plain_text._are_cells(lines, ",") is expected


def test_a_line_longer_than_a_block_is_left_to_ours(
    plain: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_text, "_BLOCK_BYTES", 16)
    path = tmp_path / "a.csv"
    path.write_bytes(b'f,g,label\n1,"a",3\n' + b"1,abcdefghijklmnopqrstuvwxyzabcde,3\n" * 3)
    text = TextTable(("f", "g", "label"), iter(()), Dialect(), (), path)
    assert plain_text._looked_over(text) is None
    path.write_bytes(b'f,g,label\n1,"a",3\n' + b"1,abcdef,3\n" * 3)
    assert plain_text._looked_over(text) == (4, True)


def test_a_cell_longer_than_our_reader_takes_is_refused_as_ever(
    plain: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    limit = csv.field_size_limit()
    for mark in ("", '"'):
        for length in (limit - 4, limit + 1):
            lines = ["f,label", *["1,b", "2,c"] * 1000, f"1,{mark}{'a' * length}{mark}", "2,b", ""]
            path.write_text("\n".join(lines))
            monkeypatch.setattr(plain_text, "LEAST_BYTES", 0)
            fast = outcome(path)
            assert isinstance(fast, str) == (length > limit)
            monkeypatch.setattr(plain_text, "LEAST_BYTES", 1 << 60)
            assert outcome(path) == fast
    assert plain == [True, False, True, False]


def test_a_small_file_does_not_import_pyarrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(PLAIN["numbers"])
    normal = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return normal(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    assert len(read_table(path).x) == 3
    monkeypatch.setattr(plain_text, "LEAST_BYTES", 0)
    assert len(read_table(path).x) == 3  # nor does it need it
