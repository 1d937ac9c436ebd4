"""Recordings read window by window: the numbers of the whole recording, at any rate."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("soundfile", reason="needs soundfile: pip group test")
pytest.importorskip("soxr", reason="needs soxr: pip group test")

import soundfile
import soxr

from skip2lora.data.sound_files import Reader, is_sound, length_at, survey
from skip2lora.errors import DataError, MissingExtraError
from sound_models import record, tone

Refused = Callable[..., str]
LOSSLESS = ["wav", "flac", "aiff", "w64"]


@pytest.mark.parametrize("kind", LOSSLESS)
def test_windows_of_the_own_rate_are_the_recording(kind: str, tmp_path: Path) -> None:
    sound = tone(440, 1.5)
    file = record(tmp_path / f"a.{kind}", sound, subtype="PCM_16")
    whole, of, reader = soundfile.read(file, dtype="float32")[0], survey(file), Reader()
    for start, n_samples in ((0, 100), (777, 3000), (11_900, 100)):
        got = reader.window(file, of, 8000, start, n_samples)
        np.testing.assert_array_equal(got, whole[start : start + n_samples])


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
@pytest.mark.parametrize("target", [8000, 16000, 48000])
def test_windows_of_another_rate(rate: int, target: int, tmp_path: Path) -> None:
    """They are those of the whole recording resampled at once, at its ends and within."""
    sound = tone(300, 1.2, rate=rate)
    file = record(tmp_path / "a.wav", sound, rate=rate, subtype="FLOAT")
    of = survey(file)
    whole = soxr.resample(sound, rate, target) if rate != target else sound
    assert abs(length_at(of, target) - len(whole)) <= 1
    reader, n_samples = Reader(), target // 10
    for start in (0, 1, target // 3, length_at(of, target) - n_samples):
        got = reader.window(file, of, target, start, n_samples)
        np.testing.assert_allclose(got, whole[start : start + n_samples], rtol=0, atol=2e-5)


def test_a_window_has_the_same_bits_whatever_is_read_before(tmp_path: Path) -> None:
    for kind, rate in (("wav", 44100), ("mp3", 16000)):
        file = record(tmp_path / f"a.{kind}", tone(500, 3, rate=rate), rate=rate)
        of, reader = survey(file), Reader()
        alone = Reader().window(file, of, 16000, 20_000, 4000)
        for start in (40_000, 0, 20_000, 18_000):
            reader.window(file, of, 16000, start, 4000)
        assert reader.window(file, of, 16000, 20_000, 4000).tobytes() == alone.tobytes()


def test_what_cannot_be_entered_in_the_middle(tmp_path: Path) -> None:
    """Windows of an .mp3 are those of its decoder from the start on; it is not decoded twice."""
    file = record(tmp_path / "a.mp3", tone(500, 3, rate=16000), rate=16000)
    of, whole = survey(file), soundfile.read(file, dtype="float32")[0]
    assert of.in_order
    assert of.n_frames == len(whole)
    reader = Reader()
    for start in range(0, len(whole) - 4000, 3000):
        got = reader.window(file, of, 16000, start, 4000)
        np.testing.assert_allclose(got, whole[start : start + 4000], rtol=0, atol=1e-6)


def test_channels_are_averaged(tmp_path: Path) -> None:
    one, other = tone(300, 0.5), tone(900, 0.5)
    file = record(tmp_path / "a.wav", np.stack([one, other], axis=1), subtype="FLOAT")
    of = survey(file)
    got = Reader().window(file, of, 8000, 100, 500)
    np.testing.assert_allclose(got, ((one + other) / 2)[100:600], rtol=0, atol=1e-7)
    assert of.n_channels == 2


def test_zeros_beyond_the_end(tmp_path: Path) -> None:
    file = record(tmp_path / "a.wav", tone(300, 0.1), subtype="FLOAT")
    got = Reader().window(file, survey(file), 8000, 500, 1000)
    assert got[:300].any()
    assert not got[300:].any()
    assert not Reader().window(file, survey(file), 8000, 5000, 10).any()


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
def test_any_depth(subtype: str, tmp_path: Path) -> None:
    sound = tone(300, 0.5)
    file = record(tmp_path / "a.wav", sound, subtype=subtype)
    got = Reader().window(file, survey(file), 8000, 0, len(sound))
    np.testing.assert_allclose(
        got, sound, rtol=0, atol=2e-2 if subtype in ("PCM_U8", "ULAW") else 1e-6
    )


def test_what_a_survey_says(tmp_path: Path) -> None:
    sound = tone(300, 2)
    sound[4000:8000] = 0
    loud = np.clip(20 * sound, -1, 1)
    of = survey(record(tmp_path / "a.wav", sound))
    clipped = survey(record(tmp_path / "b.wav", loud))
    assert (of.rate, of.n_frames, of.seconds, of.missing) == (8000, 16000, 2.0, 0)
    assert of.peak[25:50].max() == 0 < of.peak[:25].min()
    assert not of.clipped
    assert clipped.clipped
    np.testing.assert_allclose(of.loudness.sum(), (sound**2).sum(), rtol=1e-3)


@pytest.mark.parametrize(("rate", "block"), [(8000, 160), (8049, 160), (49, 1), (50, 1)])
def test_loudness_and_peak_of_each_fiftieth_of_a_second(
    rate: int, block: int, tmp_path: Path
) -> None:
    sound = np.random.default_rng(0).uniform(-0.9, 0.9, 1000).astype(np.float32)
    of = survey(record(tmp_path / "a.wav", sound, rate=rate, subtype="FLOAT"))
    assert (of.block, of.n_frames) == (block, 1000)
    blocks = [sound[at : at + block].astype(np.float64) for at in range(0, 1000, block)]
    np.testing.assert_allclose(of.loudness, [(each**2).sum() for each in blocks], rtol=1e-5)
    np.testing.assert_array_equal(of.peak, [np.float32(np.abs(each).max()) for each in blocks])


@pytest.mark.parametrize(("n_full", "clipped"), [(2, False), (3, True)])
def test_over_a_thousandth_at_full_scale_is_clipped(
    n_full: int, clipped: bool, tmp_path: Path
) -> None:
    sound = np.full(2000, 0.9985, np.float32)
    sound[:n_full] = [0.9995, -1, 1][:n_full]
    of = survey(record(tmp_path / "a.wav", sound, subtype="FLOAT"))
    assert of.clipped == clipped


def test_long_recordings_are_read_in_parts(tmp_path: Path) -> None:
    """Of more frames than are read at once, also where the rate has no even share of them."""
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 600_000).astype(np.float32)
    of = survey(record(tmp_path / "a.wav", sound, rate=8049, subtype="FLOAT"))
    assert (of.n_frames, len(of.peak), of.missing) == (600_000, 3750, 0)
    np.testing.assert_array_equal(of.peak, np.abs(sound.reshape(-1, 160)).max(axis=1))


def test_zeros_before_the_start(tmp_path: Path) -> None:
    sound = tone(300, 0.1)
    file = record(tmp_path / "a.wav", sound, subtype="FLOAT")
    got = Reader().window(file, survey(file), 8000, -10, 30)
    np.testing.assert_array_equal(got, np.concatenate([np.zeros(10), sound[:20]]))
    assert not Reader().window(file, survey(file), 8000, -40, 30).any()


@pytest.mark.parametrize("kind", ["wav", "aiff", "flac"])
def test_a_truncated_recording_ends_early(kind: str, tmp_path: Path) -> None:
    """What is there is read, and what its head promises is known."""
    sound = tone(300, 2) + 0.01 * np.random.default_rng(0).normal(size=16000)
    file = record(tmp_path / f"a.{kind}", sound.astype(np.float32))
    whole, content = survey(file), file.read_bytes()
    assert whole.missing == 0
    file.write_bytes(content[: len(content) // 2])
    of = survey(file)
    assert 3000 < of.n_frames < 8100  # FLAC has blocks of 4096
    assert of.n_frames + of.missing == pytest.approx(16000, abs=10)
    np.testing.assert_allclose(of.loudness[:20], whole.loudness[:20])
    got = Reader().window(file, of, 8000, of.n_frames - 100, 100)
    np.testing.assert_allclose(got, sound[of.n_frames - 100 : of.n_frames], atol=1e-4)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_head_written_before_the_sound_promises_nothing(size: int, tmp_path: Path) -> None:
    """As of what is recorded into a pipe."""
    file = record(tmp_path / "a.wav", tone(300, 2))
    content = bytearray(file.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = size.to_bytes(4, "little")
    file.write_bytes(content)
    of = survey(file)
    assert (of.n_frames, of.missing) == (16000, 0)


def test_what_is_no_recording(tmp_path: Path, refused: Refused) -> None:
    file = tmp_path / "a.wav"
    for content in (b"", b"RIFF1234", b"not sound at all" * 100):
        file.write_bytes(content)
        message = refused(DataError, survey, file)
        assert "a.wav cannot be read as sound" in message
        assert message.count("\n") == 0
    record(file, np.zeros(0, np.float32))
    assert "a.wav has no sound in it" in refused(DataError, survey, file)
    record(file, np.array([0.5, np.nan], np.float32), subtype="FLOAT")
    message = refused(DataError, Reader().window, file, survey(file), 8000, 0, 2)
    assert "a.wav has samples that are NaN or infinite" in message


def test_a_recording_that_changed(tmp_path: Path, refused: Refused) -> None:
    for kind in ("wav", "mp3"):
        file = record(tmp_path / f"a.{kind}", tone(300, 2, rate=16000), rate=16000)
        of = survey(file)
        record(file, tone(300, 0.5, rate=16000), rate=16000)
        message = refused(DataError, Reader().window, file, of, 16000, 20_000, 100)
        assert "changed while it was read" in message


def test_names() -> None:
    assert is_sound(Path("a/B.WAV"))
    assert not is_sound(Path("a/wav"))


def test_missing_packages(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = record(tmp_path / "a.wav", tone(300, 1))
    of = survey(file)
    monkeypatch.setitem(sys.modules, "soxr", None)
    message = refused(MissingExtraError, Reader().window, file, of, 16000, 0, 10)
    assert "needs soxr: pip install 'skip2lora[audio]'" in message
    monkeypatch.setitem(sys.modules, "soundfile", None)
    assert "needs soundfile: pip install 'skip2lora[audio]'" in refused(
        MissingExtraError, survey, file
    )
