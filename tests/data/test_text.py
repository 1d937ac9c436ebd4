"""Tables of text: read as they were meant, however they are written, or refused."""

from __future__ import annotations

import csv
import gzip
import io
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from sample_files import refusal, write_text
from skip2lora.data.reading import read_samples
from skip2lora.data.text import _columns, _find_decimal, _find_delimiter, _is_header, _unit
from skip2lora.errors import DataError, FileError
from skip2lora.tasks.task import TASKS

COLUMNS = ["ax", "größe", "az", "label"]
LABELS = ["idle", "wave left", "a, b; c"]
VALUES = np.random.default_rng(3).normal(0, 50, (12, 3)).round(4)
ANSWERS = np.arange(12) % 3


@dataclass(frozen=True)
class Way:
    """How a table may be written."""

    delimiter: str = ","
    decimal: str = "."
    end: str = "\n"
    encoding: str = "utf-8"
    quoting: int = csv.QUOTE_MINIMAL
    before: str = ""
    units: bool = False
    trailing: str = ""  # header, rows or both end in a delimiter
    after: str = ""
    packed: bool = False

    def write(self, path: Path) -> Path:
        stream = io.StringIO()
        writer = csv.writer(
            stream, delimiter=self.delimiter, lineterminator=self.end, quoting=self.quoting
        )
        ends = {
            where: [""] if self.trailing in (where, "both") else [] for where in ("head", "row")
        }
        writer.writerow(COLUMNS + ends["head"])
        if self.units:
            writer.writerow(["m/s2", "°C", "", ""] + ends["row"])
        for numbers, label in zip(VALUES, ANSWERS, strict=True):
            cells = [f"{number:.4f}".replace(".", self.decimal) for number in numbers]
            writer.writerow([*cells, LABELS[label], *ends["row"]])
        after = self.after.replace(",", self.delimiter)
        content = (self.before + stream.getvalue() + after).encode(self.encoding)
        path.write_bytes(gzip.compress(content) if self.packed else content)
        return path


PLAIN = [Way(*way) for way in product(",;\t|", ".,", ["\n", "\r\n", "\r"])]
OTHERS = [
    way
    for delimiter, decimal in [(",", "."), (";", ","), ("\t", ","), (",", ",")]
    for way in (
        Way(delimiter, decimal, encoding="utf-8-sig"),
        Way(delimiter, decimal, encoding="utf-16"),
        Way(delimiter, decimal, encoding="latin-1"),
        Way(delimiter, decimal, quoting=csv.QUOTE_ALL),
        Way(delimiter, decimal, quoting=csv.QUOTE_NONNUMERIC),
        Way(delimiter, decimal, before=f"sep={delimiter}\r\n", end="\r\n"),
        Way(delimiter, decimal, before="# logger v1, serial 7\n# x\n\n"),
        Way(delimiter, decimal, before="\n\n"),
        Way(delimiter, decimal, units=True),
        Way(delimiter, decimal, trailing="both"),
        Way(delimiter, decimal, trailing="head"),
        Way(delimiter, decimal, trailing="row"),
        Way(delimiter, decimal, after="\n\n,,,\n,,,\n"),
        Way(delimiter, decimal, packed=True),
    )
]  # fmt: skip


@pytest.mark.parametrize("way", PLAIN + OTHERS, ids=repr)
@pytest.mark.parametrize("name", ["a.csv", "a.tsv.gz"])
def test_however_it_is_written(way: Way, name: str, tmp_path: Path) -> None:
    samples = read_samples(way.write(tmp_path / name))
    np.testing.assert_array_equal(samples.x, VALUES.astype(np.float32))
    assert samples.feature_names == tuple(COLUMNS[:3])
    assert samples.class_names is not None
    assert samples.y is not None
    assert [samples.class_names[label] for label in samples.y] == [LABELS[at] for at in ANSWERS]
    said = " ".join(samples.notes)
    assert ("semicolons" in said) == (way.delimiter == ";")
    assert ("tabs" in said) == (way.delimiter == "\t")
    assert ("decimal comma" in said) == (way.decimal == ",")
    assert ("Windows-1252" in said) == (way.encoding == "latin-1")
    assert ('line 2 is left out, as it has units ("m/s2")' in said) == way.units
    assert ("begin with #" in said) == ("#" in way.before)


@pytest.mark.parametrize("way", PLAIN[::3], ids=repr)
def test_numbers_alone(way: Way, tmp_path: Path) -> None:
    """Without text that tells delimiters apart, in columns of any number from 1."""
    for n_columns in (2, 3, 7):
        rows = np.random.default_rng(n_columns).normal(0, 9, (20, n_columns)).round(2)
        lines = [[f"c{at}" for at in range(n_columns)]]
        lines += [[f"{number:.2f}".replace(".", way.decimal) for number in row] for row in rows]
        text = io.StringIO()
        csv.writer(text, delimiter=way.delimiter, lineterminator=way.end).writerows(lines)
        read = read_samples(write_text(tmp_path / "a.csv", text.getvalue()), labels_required=False)
        np.testing.assert_array_equal(read.x, rows.astype(np.float32))


def test_header_in_a_comment_as_numpy_writes_it(tmp_path: Path) -> None:
    table = np.column_stack([VALUES, ANSWERS])
    np.savetxt(tmp_path / "a.csv", table, delimiter=",", header="made by hand\nax,ay,az,label")
    samples = read_samples(tmp_path / "a.csv")
    assert samples.feature_names == ("ax", "ay", "az")
    np.testing.assert_array_equal(samples.x, VALUES.astype(np.float32))
    path = write_text(tmp_path / "one.csv", "# f,label\n1.5,0\n")
    samples = read_samples(path)
    assert (samples.feature_names, samples.x.tolist()) == (("f",), [[1.5]])
    path = write_text(tmp_path / "b.csv", "# by hand\n# f,label\n1,0\nx,1\n")
    assert 'row 1 (from 0, line 4) column "f" has "x"' in refusal(path)


def test_names_with_delimiters(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.csv", "acc,x;acc,y\n1,5;3,25\n2,5;4,75\n")
    samples = read_samples(path, labels_required=False)
    assert samples.feature_names == ("acc,x", "acc,y")
    assert samples.x.tolist() == [[1.5, 3.25], [2.5, 4.75]]


def test_a_number_may_be_a_truth_or_infinite_digits(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.csv", "on,f,label\nTrue,.5,0\nfalse,-1.e3,1\nTRUE, +2 ,1\n")
    assert read_samples(path).x.tolist() == [[1, 0.5], [0, -1000], [1, 2]]


def test_columns_that_are_called_by_numbers(tmp_path: Path) -> None:
    """Wavelengths of a spectrum are a header."""
    path = write_text(tmp_path / "a.csv", "400.5,401,kind\n1,2,oil\n3,4,water\n")
    assert read_samples(path, target="kind").feature_names == ("400.5", "401")


@pytest.mark.parametrize("n_columns", [3, 300])
def test_a_name_of_a_column_may_be_a_label(n_columns: int, tmp_path: Path) -> None:
    """Where all of the first line is text; numbers there would be a row."""
    names = [f"c{at}" for at in range(n_columns)]
    rows = [[*map(str, range(n_columns)), "kind"], [*map(str, range(n_columns)), "b"]]
    lines = [",".join(cells) for cells in ([*names, "kind"], *rows)]
    path = write_text(tmp_path / "a.csv", "\n".join(lines))
    assert read_samples(path, target="kind").class_names == ("b", "kind")
    path = write_text(
        tmp_path / "b.csv", "\n".join([",".join(["1", *names[1:], "kind"]), *lines[1:]])
    )
    assert 'line 1 has numbers and "c1", as rows below it' in refusal(path)


THOUSANDS = ["1,234.5", "1_000", "1'234", "1.234.567", "1,234,567", "1 234.5", "-12,345.75"]


@pytest.mark.parametrize("cell", THOUSANDS)
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_thousands_separators_are_refused_by_name(
    cell: str, delimiter: str, tmp_path: Path
) -> None:
    text = io.StringIO()
    rows = [["f", "g", "label"], [cell, "1.5", "a"], ["2.25", "3.5", "b"]]
    csv.writer(text, delimiter=delimiter).writerows(rows)
    message = refusal(write_text(tmp_path / "a.csv", text.getvalue()))
    assert f'row 0 (from 0, line 2) column "f" has "{cell}", with thousands separators' in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("f;label\n1,5;a\n1.234,5;b\n", 'line 3) column "f" has "1.234,5", with thousands'),
        ("f;g;label\n1,234;2;a\n2,345;3;b\n", 'column "f" has "1,234", which may be a'),
        ("f;g;label\n1.234;2;a\n12.345;3;b\n", 'column "f" has "1.234", which may be a'),
        ("f g label\n1.5 2 a\n2.5 3 b\n", "its cells are separated by spaces"),
        ("f;g;label\n1,5;2;a\n2;3.5;b\n", 'has "1,5", expected a number with a decimal point'),
        ("f,g,label\n1,NA,a\n2,3,b\n", 'column "g" has "NA", a missing value'),
        ("f,g,label\n1,2,a\n2,?,b\n", 'line 3) column "g" has "?", a missing value'),
        ("f,g,label\n1,2,NaN\n2,3,b\n", 'line 2) column "label" has "NaN", a missing value'),
        ("f,g,label\n1,2,a\n,,\n3,4,b\n", "row 1 (from 0, line 3) is empty, expected values"),
        ("1,2,a\n3,4,b\n5,6,a\n", 'line 1 has numbers and "a", as rows below it'),
        ("f,f,label\n1,2,a\n", 'column "f" is there twice'),
        ("f,g,label\n1,2,a\n3,4\n", "row 1 (from 0, line 3) has 2 cells, expected 3"),
        ("f,g,label\n1,2,a\n3,4,b,5\n", "row 1 (from 0, line 3) has 4 cells, expected 3"),
        ("f,g,label\n1,2,a\n\0\0\0", "line 3 has NUL characters"),
        ("f,label\n\u0663,a\n1,b\n", 'has "\u0663", expected a number'),
        ("f,label\n12%,a\n1,b\n", 'has "12%", expected a number'),
        ("f;g\tlabel\n1;2\t3\n4;5\t6\n", "may be separated by semicolons or tabs"),
        ("PK\x03\x04 and so on", "it is a .zip or an Excel file"),
    ],
)  # fmt: skip
def test_refused(text: str, said: str, tmp_path: Path) -> None:
    assert said in refusal(write_text(tmp_path / "a.csv", text))


def test_columns_to_leave_out_are_named(tmp_path: Path) -> None:
    for cells, said in (("1%,2", "column out with ignore='f'"), ("1%,x", "columns out with")):
        path = write_text(tmp_path / "a.csv", f"f,g,label\n{cells},a\n{cells},b\n")
        assert f"leave the {said}" in refusal(path)


def test_a_line_without_end(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.csv", "f,label\n1,a\n" + "1" * (1 << 26))
    assert "line 3 has more than 67,108,864 characters, expected a row" in refusal(path)


def test_decimals_that_come_late(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.csv", "f;label\n" + "1;0\n" * 2000 + "1,5;0\n")
    assert 'line 2002) column "f" has "1,5", expected a number with a decimal' in refusal(path)
    path = write_text(tmp_path / "b.csv", "f;label\n" + "1,5;0\n" * 2000 + "1.234;0\n")
    assert 'line 2002) column "f" has "1.234", with thousands' in refusal(path)


def test_a_first_row_that_is_no_row_of_units(tmp_path: Path) -> None:
    for row in ("abc,1.5", "1.5,a", "1O,a", "abc,b"):
        path = write_text(tmp_path / "a.csv", f"f,label\n{row}\n2,a\n3,b\n")
        if row == "1.5,a":
            assert len(read_samples(path).x) == 3
        else:
            assert f'has "{row[:2]}' in refusal(path)


def test_damaged_when_packed(tmp_path: Path) -> None:
    path = Way(packed=True).write(tmp_path / "a.csv.gz")
    whole = path.read_bytes()
    for content in (whole[:-20], whole[:12], whole[:30] + b"\1" + whole[31:]):
        path.write_bytes(content)
        assert "damaged or no .csv" in refusal(path)


def test_numbers_to_learn_have_the_decimals_of_the_table(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.csv", "f;out\n1,5;2,25\n2,5;-3,5\n")
    samples = read_samples(path, target="out", task=TASKS["regression"])
    assert samples.labels.tolist() == [[2.25], [-3.5]]
    path = write_text(tmp_path / "b.csv", "f,out\n1.5,2.25\n2.5,-3.5\n")
    assert read_samples(path, target="out", task=TASKS["regression"]).labels.tolist() == [
        [2.25], [-3.5],
    ]  # fmt: skip


@pytest.mark.parametrize("n_columns", [2, 300])
def test_a_header_in_a_comment_of_any_width(n_columns: int, tmp_path: Path) -> None:
    names = [f"c{at}" for at in range(n_columns)]
    row = ",".join(map(str, range(n_columns)))
    path = write_text(tmp_path / "a.csv", f"# {','.join(names)}\n{row}\n{row}\n")
    samples = read_samples(path, labels_required=False)
    assert samples.feature_names == tuple(names)
    assert samples.x.tolist() == [list(range(n_columns))] * 2


@pytest.mark.parametrize(
    ("lines", "delimiter"),
    [
        (["x,y;z", "1,2;3"], ";"),  # of two cells one is a number with a comma
        (["x;y,z", "1;2,3"], ";"),
        (["a,b", "1,2", "3;4;5,6"], ","),
        (["a;b;c,d", "1;2;3,4", "5;6;7,8"], ";"),
        (["a\tb", "x\ty"], "\t"),
        (["a;b", "x,y;z"], ";"),
        (["a"], ","),
    ],
)
def test_what_makes_the_most_numbers_is_between_cells(lines: list[str], delimiter: str) -> None:
    assert _find_delimiter(lines) == delimiter


@pytest.mark.parametrize("n_bytes", [0, -1])
def test_answers_that_just_fit_into_memory(
    n_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four bytes a letter of the longest answer, in every row; numbers have a file if need be."""
    n_rows, longest = 50, "a label of 21 letters"
    rows = "".join(f"{at},{at},{longest if at == 7 else 'b'}\n" for at in range(n_rows))
    path = write_text(tmp_path / "a.csv", f"x,z,label\n{rows}")
    whole = n_rows * 4 * len(longest)
    assert whole > path.stat().st_size
    monkeypatch.setenv("SKIP2LORA_MAX_BYTES", str(whole + n_bytes))
    if n_bytes < 0:
        assert "takes 0 MB of memory or more" in refusal(path, FileError)
    else:
        assert len(read_samples(path).x) == n_rows


@pytest.mark.parametrize(
    ("line", "following", "header"),
    [
        ("a,b", ["1,2"], True), ("a,b", ["1,x"], True), ("a,b", ["x,y"], False),
        ("a,2", ["1,2"], False), ("a,b,c", ["1,2"], False), ("a", ["1"], False), ("a,b", [], False),
    ],
)  # fmt: skip
def test_a_comment_that_names_columns(line: str, following: list[str], header: bool) -> None:
    assert _is_header(line, following, ",") == header


@pytest.mark.parametrize(
    ("cells", "columns"),
    [
        ([["a", "b"], ["1", "2"]], "a b"), ([["0", "1"], ["5", "6"]], "0 1"),
        ([["a", "", ""], ["1", "", ""]], "a"), ([["a", "", ""], ["1", "2", ""]], "a ,"),
        ([["a", ""]], "a"), ([["a", "1"], ["2", "a"]], "a 1"),
    ],
)  # fmt: skip
def test_names_of_columns(cells: list[list[str]], columns: str) -> None:
    assert _columns(cells, 1) == tuple(columns.replace(",", "").split(" "))


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([], "line 4 is blank"), ([["1", "2"], ["3", "4"]], "line 4 holds only numbers"),
        ([["1", "0"]], "line 4 holds only numbers"),
        ([["a", "1"], ["b", "2"], ["a", "3"]], 'line 4 has numbers and "a", as rows below it'),
        ([["1", "a"], ["2"], ["3", "a"]], 'line 4 has numbers and "a", as rows below it'),
    ],
)  # fmt: skip
def test_what_is_no_header(cells: list[list[str]], said: str) -> None:
    with pytest.raises(DataError, match=f"{said}, expected the column names: add a header row"):
        _columns(cells, 4)


@pytest.mark.parametrize(
    ("rows", "unit"),
    [
        ([["m/s", ""], ["1", "2"]], "m/s"), ([["", "K"], ["x", "2"]], "K"), ([["K", ""]], None),
        ([["K", "x"], ["y", "x"]], None), ([["K", "x"], ["y", "z"]], None),
        ([["9K", ""], ["1", "2"]], None), ([["nan", "V"], ["1", "2"]], "V"),
        ([["K", "V"], ["x", "y"], ["1", "2"]], None),
    ],
)  # fmt: skip
def test_a_row_of_units(rows: list[list[str]], unit: str | None) -> None:
    assert _unit(rows) == unit


@pytest.mark.parametrize(
    ("cells", "delimiter", "decimal"),
    [
        (["1,5"], ";", ","), (["1.5"], ",", "."), (["1.5", "2,25"], ";", "."),
        (["x", "7"], ";", "."),
        (["1,500", "2,25"], ";", ","), (["1.500", "2.25"], ";", "."), (["1.500"], ",", "."),
        (["1,500", "2.5"], ";", "."),
    ],
)  # fmt: skip
def test_a_point_or_a_comma(cells: list[str], delimiter: str, decimal: str) -> None:
    assert _find_decimal([cells], ["a"] * len(cells), delimiter) == decimal


@pytest.mark.parametrize("cell", ["1,500", "1.500"])
def test_a_thousand_or_a_fraction(cell: str) -> None:
    """Also in a column that has no name."""
    for columns, name in ((["a", "b"], "b"), (["a"], "1")):
        with pytest.raises(DataError, match=f'column "{name}" has "{cell}", which may be a'):
            _find_decimal([["x", cell], ["y"]], columns, ";")


@pytest.mark.parametrize(
    ("row", "names"),
    [("1,wren,3", "'b'"), ("x,wren,3", "'a,b'"), ("1,wren,y", "'b,c'"), ("1,2,9a", "'c'")],
)
def test_columns_of_text_alone_are_to_be_left_out(row: str, names: str, tmp_path: Path) -> None:
    """Those before and behind them that hold numbers are not named."""
    path = write_text(tmp_path / "t.csv", f"a,b,c,label\n1,2,3,k\n{row},k\n")
    s = "s" if "," in names else ""
    assert f"leave the column{s} out with ignore={names}, or name" in refusal(path)
