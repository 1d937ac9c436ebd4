"""Tables of segments, as other programs write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from skip2lora.data.segments import Segment, read_segments
from skip2lora.errors import DataError, FileError

Refused = Callable[..., str]
AUDACITY = "0.5\t1.25\twren\n\\\t200.0\t900.0\n2\t2.5\trobin\n"
RAVEN = (
    "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tBegin File\t"
    "Annotation\n"
    "1\tWaveform 1\t1\t0.5\t1.25\t0\ta.wav\twren\n"
    "1\tSpectrogram 1\t1\t0.5\t1.25\t200\ta.wav\twren\n"
    "2\tSpectrogram 1\t1\t2\t2.5\t200\ta.wav\trobin\n"
)
BIRDNET = (
    "Start (s),End (s),Scientific name,Common name,Confidence\n"
    "0.5,1.25,Troglodytes,wren,0.91\n2,2.5,Erithacus,robin,0.5\n"
)
DECIMAL_COMMA = "start;end;label\n0,5;1,25;wren\n2;2,5;robin\n"
WANT = [Segment(0, 0.5, 1.25, "wren"), Segment(0, 2.0, 2.5, "robin")]


@pytest.mark.parametrize(
    "text", [AUDACITY, RAVEN, BIRDNET, DECIMAL_COMMA, "\ufeff" + RAVEN.replace("\n", "\r\n")]
)
def test_what_others_write(text: str, tmp_path: Path) -> None:
    table = tmp_path / "t.txt"
    table.write_text(text, encoding="utf-8", newline="")
    assert read_segments(table, ["a.wav"], [3.0]) == WANT


def test_recordings_are_matched_by_name(tmp_path: Path, refused: Refused) -> None:
    table, names = tmp_path / "t.csv", ["x/a.wav", "y/b.wav"]
    table.write_text("file,start,end,label\nC:\\sound\\b.wav,0,1,wren\nx/a.wav,1,2,robin\n")
    assert read_segments(table, names, [3.0, 3.0]) == [
        Segment(1, 0.0, 1.0, "wren"), Segment(0, 1.0, 2.0, "robin"),
    ]  # fmt: skip
    table.write_text("file,start,end,label\nc.wav,0,1,wren\n")
    assert 'line 2 names "c.wav", there are x/a.wav, y/b.wav' in refused(
        DataError, read_segments, table, names, [3.0, 3.0]
    )
    table.write_text(AUDACITY)
    message = refused(DataError, read_segments, table, names, [3.0, 3.0])
    assert "line 1 names no recording" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2\t1\twren\n", "line 1 is from 2 to 1 s, expected a start and an end after it"),
        ("-1\t1\twren\n", "line 1 is from -1 to 1 s"),
        ("nan\t1\twren\n", "line 1 is from nan to 1 s"),
        ("4\t5\twren\n", "a.wav has 3.00 s, expected a part of it"),
        ("1\t9\twren\n", "line 1 is from 1 to 9 s, a.wav has 3.00 s"),
        ("1\t2\n", "line 1 has 2 cells, expected start, end and label with tabs"),
        ("one\t2\twren\n", 'line 1 has "one" as a time, expected seconds'),
        ("a" * 61 + "\t2\twren\n", 'line 1 has "' + "a" * 28 + "..." + "a" * 28 + '" as a time'),
        ("3\t3\twren\n", "a.wav has 3.00 s, expected a part of it"),
        ("2\t3.51\twren\n", "line 1 is from 2 to 3.51 s, a.wav has 3.00 s"),
        ("end,label\n1,2\n", "has the columns end, label, expected times and labels"),
        ("start,end,label\n\n1,2,a\n1,2\n", "line 4 has 2 cells, expected 3 as its head"),
        ("start,end\n1,2\n", "has the columns start, end, expected times and labels"),
        ("start,end,label\n1,2\n", "line 2 has 2 cells, expected 3 as its head"),
        ("", "has no segments"),
        ("start,end,label\n", "has no segments"),
    ],
)
def test_what_is_refused(text: str, said: str, tmp_path: Path, refused: Refused) -> None:
    table = tmp_path / "t.txt"
    table.write_text(text)
    assert said in refused(DataError, read_segments, table, ["a.wav"], [3.0])


def test_a_little_beyond_the_end_is_the_end(tmp_path: Path) -> None:
    """Tables are rounded."""
    table = tmp_path / "t.txt"
    table.write_text("1\t3.2\twren\n")
    assert read_segments(table, ["a.wav"], [3.0]) == [Segment(0, 1.0, 3.0, "wren")]


def test_files_that_cannot_be_read(tmp_path: Path, refused: Refused) -> None:
    with pytest.raises(FileError):
        read_segments(tmp_path / "none.txt", ["a.wav"], [3.0])
    (tmp_path / "t.txt").write_bytes(b"0\t1\t\xff\n")
    assert "not UTF-8" in refused(DataError, read_segments, tmp_path / "t.txt", ["a.wav"], [3.0])


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("0\t3.5\twren\n", (0.0, 3.0, "wren")),  # the farthest that is a rounded end
        ("2.9\t2.9\t wren \tmore\n", (2.9, 2.9, "wren")),
        ("stop,BEGIN, species \n\n1,0,wren\n", (0.0, 1.0, "wren")),
        ("start;end;label\n0;1;wren, small\n", (0.0, 1.0, "wren, small")),
        ("start,end,label;more\n0,1,wren\n", None),
        ("label,start,end,file\nwren,0,1\n", (0.0, 1.0, "wren")),  # a line without its file
        ("label,start,end,file\nwren,0,1, a.wav \n", (0.0, 1.0, "wren")),
    ],
)
def test_forms_of_a_line(text: str, want: object, tmp_path: Path) -> None:
    table = tmp_path / "t.txt"
    table.write_text(text)
    if want is None:  # a comma counts more than a semicolon
        with pytest.raises(DataError, match="has the columns start, end, label;more"):
            read_segments(table, ["a.wav"], [3.0])
    else:
        (segment,) = read_segments(table, ["a.wav"], [3.0])
        assert (segment.start, segment.end, segment.label) == want
