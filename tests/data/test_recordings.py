"""Folders of recordings as samples: which windows, of which class, and what is said of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("soundfile", reason="needs soundfile: pip group test")
pytest.importorskip("soxr", reason="needs soxr: pip group test")

from skip2lora.backbones.inputs import InputSpec
from skip2lora.data.recordings import _is_silent, _starts, describe_recordings, read_recordings
from skip2lora.data.samples import Table
from skip2lora.data.sound_files import Survey
from skip2lora.data.sound_options import Sound
from skip2lora.errors import DataError, ParameterError
from skip2lora.tasks.columns import Wanted
from sound_models import RATE, WINDOW, record, tone, tones

Refused = Callable[..., str]
ROW = (InputSpec("x", (WINDOW,), "float32"),)


def read(
    folder: Path, inputs: Sequence[InputSpec] = ROW, *, required: bool = False, **options: Any
) -> Table:
    sound = Sound(**{"rate": RATE} | options)
    return read_recordings(folder, sound, inputs, Wanted(labels_required=required))


def starts(table: Table) -> list[float]:
    assert table.spans is not None
    return table.spans.seconds[:, 0].tolist()


def test_windows_side_by_side(tmp_path: Path) -> None:
    """Of 0.25 s; a rest of half of one or more is one too, followed by silence."""
    sound = tone(300, 1.2)
    table = read(record(tmp_path / "a.wav", sound, subtype="FLOAT"))
    assert starts(table) == [0.0, 0.25, 0.5, 0.75, 1.0]
    x = np.asarray(table.x)
    assert (x.shape, x.dtype) == ((5, WINDOW), np.float32)
    np.testing.assert_array_equal(x[:4].reshape(-1), sound[:8000])
    np.testing.assert_array_equal(x[4, :1600], sound[8000:])
    assert not x[4, 1600:].any()
    assert table.answers.values is None
    short = read(record(tmp_path / "b.wav", tone(300, 1.1)))
    assert starts(short) == [0.0, 0.25, 0.5, 0.75]


def test_windows_that_overlap(tmp_path: Path) -> None:
    table = read(record(tmp_path / "a.wav", tone(300, 0.5)), hop=0.1)
    np.testing.assert_allclose(starts(table), [0.0, 0.1, 0.2])


def test_one_window_a_recording(tmp_path: Path) -> None:
    sound = 0.01 * tone(300, 1)
    sound[4800:6000] *= 30
    file = record(tmp_path / "a.wav", sound, subtype="FLOAT")
    assert starts(read(file, crop="centre")) == [0.375]
    (start,) = starts(read(file, crop="loudest"))
    assert 0.5 <= start <= 0.6
    assert start + 0.25 >= 0.75


def test_classes_are_folders_and_recordings_are_groups(tmp_path: Path) -> None:
    table = read(tones(tmp_path, 3), required=True)
    assert table.files is not None
    assert table.answers.values is not None
    labels = table.answers.values.tolist()
    assert [name.split("/")[0] for name in table.files] == labels
    assert sorted(set(labels)) == ["high", "low"]
    assert table.aside["group"].tolist() == list(table.files)
    assert table.answers.place(1) == f"{table.files[1]} at {starts(table)[1]:.2f} s"


@pytest.mark.parametrize(
    ("shape", "window"),
    [((1, WINDOW), None), ((WINDOW, 1), None), ((None,), 0.2), ((1, None), 0.2)],
)
def test_how_a_model_takes_sound(
    shape: tuple[int | None, ...], window: float | None, tmp_path: Path
) -> None:
    file = record(tmp_path / "a.wav", tone(300, 1))
    inputs = (InputSpec("x", shape, "float32"),)
    n_samples = WINDOW if window is None else 1600
    x = np.asarray(read(file, inputs, window=window).x)
    assert x.shape[1:] == tuple(n_samples if size is None else size for size in shape)


def test_gain_and_whole_numbers(tmp_path: Path) -> None:
    sound = tone(300, 0.25)
    file = record(tmp_path / "a.wav", sound, subtype="FLOAT")
    np.testing.assert_array_equal(np.asarray(read(file, gain=4.0).x)[0], 4 * sound)
    whole = np.asarray(read(file, (InputSpec("x", (WINDOW,), "int16"),), gain=32768.0).x)
    assert whole.dtype == np.int16
    np.testing.assert_array_equal(whole[0], np.rint(sound * np.float32(32768)))
    loud = np.asarray(read(file, (InputSpec("x", (WINDOW,), "int16"),), gain=1e6).x)
    assert (loud.min(), loud.max()) == (-32768, 32767)


def test_what_is_said(tmp_path: Path) -> None:
    record(tmp_path / "a" / "1.wav", tone(300, 0.1))
    record(tmp_path / "a" / "2.wav", tone(300, 0.5, rate=16000), rate=16000)
    record(tmp_path / "a" / "3.wav", np.stack([tone(300, 0.5)] * 2, axis=1))
    record(tmp_path / "b" / "4.wav", np.zeros(4000, np.float32))
    record(tmp_path / "b" / "5.wav", np.clip(9 * tone(300, 0.5), -1, 1))
    (tmp_path / "b" / "6.wav").write_bytes(b"nothing")
    (tmp_path / "b" / "notes.docx").write_bytes(b"text")
    notes = "; ".join(read(tmp_path).notes)
    for said in (
        "no recording, left out: .docx 1",
        "1 recording that cannot be read left out: b/6.wav (Format",
        "resampled to 8000 Hz: 1 of 16000 Hz",
        "1 of 5 recordings have several channels",
        "1 of 5 recordings are clipped",
        "1 of 5 recordings are shorter than a window of 0.25 s",
        "2 of 9 windows are silent",
    ):
        assert said in notes
    assert describe_recordings(tmp_path)["recordings_a_class"] == {"a": 3, "b": 2}
    assert describe_recordings(tmp_path)["rates_hz"] == [8000, 16000]


def test_a_class_of_which_none_can_be_read(tmp_path: Path, refused: Refused) -> None:
    tones(tmp_path, 1)
    (tmp_path / "mid").mkdir()
    (tmp_path / "mid" / "a.wav").write_bytes(b"")
    assert "no recording of mid can be read (mid/a.wav (" in refused(DataError, read, tmp_path)


def test_segments(tmp_path: Path, refused: Refused) -> None:
    """Windows lie in the segments; one that is shorter has the sound around it."""
    sound = tone(300, 2)
    file = record(tmp_path / "a.wav", sound, subtype="FLOAT")
    table = tmp_path / "labels.txt"
    table.write_text("0.5\t1.0\twren\n1.5\t1.6\trobin\n1.95\t2.0\twren\n")
    samples = read(file, segments=table, required=True)
    assert samples.answers.values is not None
    assert samples.answers.values.tolist() == ["wren", "wren", "robin", "wren"]
    np.testing.assert_allclose(starts(samples), [0.5, 0.75, 1.425, 1.75])
    x = np.asarray(samples.x)
    np.testing.assert_array_equal(x[2], sound[11400:13400])
    np.testing.assert_array_equal(x[3], sound[14000:])
    table.write_text("5\t6\twren\n")
    assert "a.wav has 2.00 s" in refused(DataError, read, file, segments=table)


@pytest.mark.parametrize(
    ("inputs", "options", "said"),
    [
        (ROW, {"rate": None}, "rate= is missing"),
        (ROW, {"window": 0.5}, "window= is 0.5 s, 4000 samples at 8000 Hz, the model takes 2000"),
        ((InputSpec("x", (None,), "float32"),), {}, "window= is missing"),
        ((InputSpec("x", (3, 8, 8), "float32"),), {}, "x (3, 8, 8) float32, expected one row"),
        ((InputSpec("x", (8,), "int64"),), {}, "expected one row of samples of sound"),
        ((*ROW, *ROW), {}, "expected one row of samples of sound"),
    ],
)
def test_models_that_take_no_such_sound(
    inputs: Any, options: dict[str, Any], said: str, tmp_path: Path, refused: Refused
) -> None:
    file = record(tmp_path / "a.wav", tone(300, 1))
    assert said in refused(ParameterError, read, file, inputs, **options)


def surveyed(loudness: Sequence[float], rate: int = 100, block: int = 2) -> Survey:
    values = np.array(loudness, np.float32)
    return Survey(rate, 1, block * len(values), block, values, values, False, 0, False)


@pytest.mark.parametrize(
    ("end", "hop", "want"),
    [
        (9, 10, [0]), (10, 10, [0]), (14, 10, [0]), (15, 10, [0, 10]), (20, 10, [0, 10]),
        (24, 10, [0, 10]), (25, 10, [0, 10, 20]), (19, 9, [0, 9]), (27, 9, [0, 9]),
    ],
)  # fmt: skip
def test_a_rest_of_half_a_window_is_one(end: int, hop: int, want: list[int]) -> None:
    """But where windows overlap, of which none is short."""
    assert _starts(surveyed([1] * 20), "slide", 0, end, 10, hop, 100) == want


@pytest.mark.parametrize(
    ("begin", "end", "want"), [(0, 4, 0), (18, 22, 15), (36, 40, 30), (10, 20, 10), (12, 21, 11)]
)
def test_a_short_segment_is_in_the_middle(begin: int, end: int, want: int) -> None:
    """As far as there is sound around it."""
    assert _starts(surveyed([1] * 20), "slide", begin, end, 10, 10, 100) == [want]


@pytest.mark.parametrize(
    ("loudest", "begin", "end", "want"),
    [
        (0, 0, 40, 0), (7, 0, 40, 6), (19, 0, 40, 30), (7, 20, 40, 20), (7, 3, 19, 6),
        (19, 5, 31, 6),
    ],
)  # fmt: skip
def test_the_loudest_window_lies_in_its_segment(
    loudest: int, begin: int, end: int, want: int
) -> None:
    """Of blocks of two samples the one at ``loudest``; the first of several that hold it."""
    loudness = [0.0] * 20
    loudness[loudest] = 1.0
    assert _starts(surveyed(loudness), "loudest", begin, end, 10, 10, 100) == [want]


@pytest.mark.parametrize(("peak", "silent"), [(0.99e-4, True), (1e-4, False), (0.0, True)])
def test_what_is_silent(peak: float, silent: bool) -> None:
    """Of a window of 5 blocks alone, whatever is beside it."""
    peaks = [1.0] * 4 + [peak] * 5 + [1.0] * 4
    assert _is_silent(surveyed(peaks), 8, 10, 100) == silent
    assert not _is_silent(surveyed(peaks), 7, 10, 100)
    assert not _is_silent(surveyed(peaks), 9, 10, 100)


def test_which_windows_belong_together(tmp_path: Path) -> None:
    """Those of a recording; of one recording those of a segment, where there are several."""
    file = record(tmp_path / "a.wav", tone(300, 2))
    assert read(file).aside == {}
    table = tmp_path / "labels.txt"
    table.write_text("0\t0.5\twren\n1\t1.25\trobin\n")
    assert read(file, segments=table).aside["group"].tolist() == ["0", "0", "1"]
    table.write_text("0\t0.5\twren\n")
    assert read(file, segments=table).aside == {}


def test_lengths_are_told_and_progress(tmp_path: Path) -> None:
    for name, seconds in (("a", 0.5), ("b", 2.0)):
        record(tmp_path / "wren" / f"{name}.wav", tone(300, seconds))
    (tmp_path / "wren" / "c.wav").write_bytes(b"")
    (tmp_path / "wren" / "d.wav").write_bytes(b"")
    facts = describe_recordings(tmp_path)
    assert (facts["n_recordings"], facts["shortest_s"], facts["longest_s"]) == (2, 0.5, 2.0)
    assert facts["total_s"] == 2.5
    record(tmp_path / "flat" / "a.wav", tone(300, 1)[:1001])
    record(tmp_path / "flat" / "b.wav", tone(300, 1)[:2003])
    flat = describe_recordings(tmp_path / "flat")  # of no classes
    assert (flat["shortest_s"], flat["longest_s"], flat["total_s"]) == (0.125, 0.25, 0.376)
    assert (flat["recordings_a_class"], flat["notes"]) == (None, None)
    shutil.rmtree(tmp_path / "flat")
    seen: list[tuple[int, int]] = []
    sound = Sound(rate=RATE)
    table = read_recordings(
        tmp_path, sound, ROW, Wanted(labels_required=True), lambda *at: seen.append(at)
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert "2 recordings that cannot be read left out: wren/c.wav" in "; ".join(table.notes)
    assert table.images.segments is None


def test_a_sample_is_known_by_its_recording_and_place(tmp_path: Path) -> None:
    file = record(tmp_path / "a.wav", tone(300, 1))
    samples = read(file).x
    digests = samples.digests()
    assert len(set(digests)) == len(digests) == 4
    assert read(file).x.digests() == digests
    assert not set(read(file, gain=2.0).x.digests()) & set(digests)
    record(file, tone(300, 1, seed=1))
    assert not set(read(file).x.digests()) & set(digests)


def test_a_day_is_not_in_memory(tmp_path: Path) -> None:
    """Windows are read where they are needed: those of an hour at 8 kHz, a few at a time."""
    import tracemalloc

    file = record(tmp_path / "a.flac", np.tile(tone(300, 10), 360))
    tracemalloc.start()
    table = read(file)
    for at in range(0, len(table.x), 64):
        table.x[at : at + 64].read()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(table.x) == 14400
    assert peak < 40 << 20  # the hour has 115 MB as float32


def test_windows_of_several_calls(tmp_path: Path) -> None:
    """A model with a state between calls cuts a window into what each of them takes."""
    tones(tmp_path, 1)
    whole = np.asarray(read(tmp_path, window=0.25).x)
    calls = read(tmp_path, [InputSpec("x", (None, 500), "float32", hop=500)], window=0.25).x
    np.testing.assert_array_equal(np.asarray(calls), whole)


def test_the_part_for_training_is_described(tmp_path: Path) -> None:
    tones(tmp_path / "train", 2)
    tones(tmp_path / "test", 3)
    facts = describe_recordings(tmp_path)
    assert (facts["n_recordings"], facts["recordings_a_class"]) == (4, {"high": 2, "low": 2})
    assert (facts["shortest_s"], facts["longest_s"], facts["total_s"]) == (0.3, 0.4, 1.4)
    assert facts["rates_hz"] == [RATE]
    record(tmp_path / "alone" / "one.wav", tone(300, 0.5))
    assert describe_recordings(tmp_path / "alone")["recordings_a_class"] is None


def test_recordings_in_no_folder_of_a_class(tmp_path: Path, refused: Refused) -> None:
    """Segments have the labels of their own, and whoever asks for labels otherwise has none."""
    for name in ("a", "b"):
        record(tmp_path / f"{name}.wav", tone(300, 1), subtype="FLOAT")
    refused(DataError, read, tmp_path, required=True)
    assert read(tmp_path).answers.values is None
    table = tmp_path / "segments.csv"
    table.write_text("file,start,end,label\na.wav,0,1,wren\nb.wav,0,0.5,robin\n")
    samples = read(tmp_path, segments=table, required=True)
    assert samples.answers.values is not None
    assert samples.answers.values.tolist() == ["wren"] * 4 + ["robin"] * 2
