"""Videos: which frames there are and when, and the pixels of single ones."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skip2lora.data import video_files
from skip2lora.data.unusable import UnusableError
from skip2lora.data.video_files import Frame, Reader, Video, is_video, look_at
from skip2lora.errors import MissingExtraError
from videos import STEP, turn, write

av = pytest.importorskip("av", reason="needs PyAV: pip group test")

Refused = Callable[..., str]
UNEVEN = [0, 100, 250, 900, 1000, 2500, 2600, 2700]
KINDS = [
    ("a.mp4", "libx264"), ("a.mp4", "mpeg4"), ("a.mkv", "libx264"), ("a.mov", "mpeg4"),
    ("a.avi", "mpeg4"), ("a.avi", "mjpeg"),
]  # fmt: skip


def shade(image: Any) -> int:
    """The number of a frame, by its shade."""
    return round((float(np.asarray(image).mean()) - 10) / STEP)


@pytest.mark.parametrize(("name", "codec"), KINDS)
def test_frames_go_by_their_time_not_their_number(name: str, codec: str, tmp_path: Path) -> None:
    video = look_at(write(tmp_path / name, UNEVEN, codec=codec))
    stamps = (video.stamps - video.stamps[0]) * float(video.unit)
    np.testing.assert_allclose(stamps, np.array(UNEVEN) / 1000, atol=1e-3)
    assert (video.width, video.height, video.missing) == (48, 32, 0.0)
    frames = video.every(0.5)
    # At 0.5 s the third frame is seen still, at 1.5 and 2 s the fifth: each is taken once.
    assert [round(frame.seconds, 3) for frame in frames] == [0.0, 0.25, 1.0, 2.5]
    reader = Reader()
    shown = [shade(reader.frame(tmp_path / name, frame.stamp)) for frame in frames]
    assert shown == [0, 2, 4, 5]
    assert [round(frame.seconds, 3) for frame in video.every(10)] == [0.0]
    assert len(video.every(0.001)) == len(UNEVEN)


@pytest.mark.parametrize("seed", range(20))
def test_a_frame_stands_until_the_next(seed: int) -> None:
    """As if every moment were looked at by itself."""
    random = np.random.default_rng(seed)
    stamps = np.unique(random.integers(0, 5000, int(random.integers(1, 12)))) + 17 * seed
    video = Video(stamps, Fraction(1, 1000), 48, 32, 0.0)
    for step in (1, 40, 333, 1000, 7000):  # thousandths of a second
        moments = range(int(stamps[0]), int(stamps[-1]) + 1, step)
        shown = sorted({int(stamps[stamps <= moment][-1]) for moment in moments})
        frames = video.every(step / 1000)
        assert [frame.stamp for frame in frames] == shown
        for frame in frames:
            assert frame.seconds == pytest.approx((frame.stamp - int(stamps[0])) / 1000)


@pytest.mark.parametrize(("name", "codec"), KINDS)
def test_frames_in_any_order(name: str, codec: str, tmp_path: Path) -> None:
    file = write(tmp_path / name, list(range(0, 6000, 200)), codec=codec)
    video = look_at(file)
    reader = Reader()
    for number in (29, 0, 1, 7, 3, 28, 12, 13, 13, 29):
        image = reader.frame(file, int(video.stamps[number]))
        assert (image.mode, image.size) == ("RGB", (48, 32))
        assert shade(image) == number, number
    reader.close()


def test_two_videos_by_turns(tmp_path: Path) -> None:
    files = [write(tmp_path / name, [0, 500, 1000]) for name in ("a.mp4", "b.avi")]
    videos, reader = [look_at(file) for file in files], Reader()
    for at, number in ((0, 0), (1, 2), (0, 1), (1, 0)):
        assert shade(reader.frame(files[at], int(videos[at].stamps[number]))) == number


def test_a_frame_is_decoded_once_and_only_where_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long video is looked at without its pixels, and read with few frames beside those asked."""
    file = write(tmp_path / "a.mp4", list(range(0, 60_000, 100)))
    made: list[str] = []
    plain = video_files._Opened.frames

    def counted(self: Any, since: int | None) -> Any:
        for frame in plain(self, since):
            made.append("frame")
            yield frame

    monkeypatch.setattr(video_files._Opened, "frames", counted)
    video = look_at(file)
    assert len(video.stamps) == 600
    assert len(made) < 20  # two, and those from a key frame on
    made.clear()
    reader = Reader()
    for frame in video.every(0.1):
        reader.frame(file, frame.stamp)
    assert len(made) <= 601
    made.clear()
    reader = Reader()
    for frame in video.every(20):
        reader.frame(file, frame.stamp)
    assert len(made) < 30


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_what_a_phone_turned_stands_upright(degrees: int, tmp_path: Path) -> None:
    pixels = np.full((1, 32, 48, 3), 40, np.uint8)
    pixels[:, :16, :24] = 220  # the upper left
    file = write(tmp_path / "a.mp4", [0], pixels)
    turn(file, degrees)
    video = look_at(file)
    assert (video.width, video.height) == ((48, 32) if degrees == 180 else (32, 48))
    image = np.asarray(Reader().frame(file, int(video.stamps[0])).convert("L")).astype(int)
    want = np.rot90(pixels[0, :, :, 0], -degrees // 90).astype(int)
    assert np.abs(image - want).mean() < 12


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "a.mp4 cannot be read as a video (Invalid data found"),
        (b"no video", "expected a whole video such as"),
    ],
)
def test_what_is_no_video(content: bytes, said: str, tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    message = refused(UnusableError, look_at, tmp_path / "a.mp4")
    assert said in message
    assert str(tmp_path / "a.mp4") not in message.partition("(")[2]
    assert "cannot be read" in refused(UnusableError, look_at, tmp_path / "gone.mp4")


def test_sound_alone_and_no_frame(tmp_path: Path, refused: Refused) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert "no picture in it" in refused(UnusableError, look_at, tmp_path / "a.mp4")
    with av.open(str(tmp_path / "b.avi"), "w") as container:
        container.add_stream("mpeg4", rate=30)
        container.start_encoding()
    assert "b.avi cannot be read as a video (" in refused(
        UnusableError, look_at, tmp_path / "b.avi"
    )


@pytest.mark.parametrize(("name", "codec"), KINDS)
def test_a_video_that_is_cut_off(name: str, codec: str, tmp_path: Path) -> None:
    """What is there is read, and that it was longer is known by its head."""
    file = write(tmp_path / name, list(range(0, 6000, 200)), codec=codec)
    whole = file.read_bytes()
    start, end = whole.rfind(b"mdat"), whole.rfind(b"idx1")  # of .mp4 and .mov, of .avi
    start, end = max(0, start), len(whole) if end < 0 else end
    file.write_bytes(whole[: start + int(0.75 * (end - start))])
    video, reader = look_at(file), Reader()
    assert 5 < len(video.stamps) < 30
    assert (video.missing > 0.5) == (name != "a.avi")  # without its index it has no length
    for number in range(0, len(video.stamps) - 1, 3):
        assert shade(reader.frame(file, int(video.stamps[number]))) == number


def pictures(content: bytes) -> list[tuple[int, int]]:
    """Where the images of an .avi of them start and end."""
    starts = [at for at in range(len(content)) if content[at : at + 3] == b"\xff\xd8\xff"]
    return [(at, content.index(b"\xff\xd9", at) + 2) for at in starts]


def test_damage_in_the_middle(tmp_path: Path) -> None:
    """In the place of a frame that cannot be decoded is the one before it: none is made up."""
    file = write(tmp_path / "a.avi", list(range(0, 4000, 200)), codec="mjpeg")
    content = bytearray(file.read_bytes())
    start, end = pictures(content)[10]
    content[start:end] = bytes(end - start)
    file.write_bytes(bytes(content))
    video, reader = look_at(file), Reader()
    shown = [shade(reader.frame(file, int(stamp))) for stamp in video.stamps]
    assert shown == [*range(10), 9, *range(11, 20)]


def test_frames_that_are_gone(tmp_path: Path, refused: Refused) -> None:
    file = write(tmp_path / "a.avi", [0, 200, 400], codec="mjpeg")
    content = bytearray(file.read_bytes())
    for start, end in pictures(content):
        content[start:end] = bytes(end - start)
    file.write_bytes(bytes(content))
    assert "no frame that can be decoded" in refused(UnusableError, look_at, file)


def test_names() -> None:
    assert all(is_video(Path(name)) for name in ("a.mp4", "b.AVI", "c.mov", "d.mkv"))
    assert not is_video(Path("a.gif"))
    assert Frame(3, 0.5) == Frame(3, 0.5)


def test_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    plain = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name == "av":
            raise ImportError(name)
        return plain(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    said = refused(MissingExtraError, look_at, tmp_path / "a.mp4")
    assert "needs PyAV: pip install 'skip2lora[video]'" in said
