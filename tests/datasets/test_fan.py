"""The fan tasks: reading, finding the stop, fetching. Synthetic recordings, and the real ones."""

from __future__ import annotations

import builtins
import hashlib
import http.server
import logging
import socket
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skip2lora.datasets import fan
from skip2lora.errors import DataError, FileError, MissingExtraError, ParameterError, Skip2LoraError

MOMENTS = 40  # 10 at each speed, 10 stopped
TASK = [f"12cm_hmlo_{kind}_{part}" for part in ("silentA_1", "noisy_2", "noisy_1")
        for kind in ("normal", "damage1")]  # fmt: skip


def spectra(seed: int, speeds: tuple[float, ...] = (0.2, 0.16, 0.13, 0.07)) -> np.ndarray:
    """Return (MOMENTS, 512) amplitudes that drop with each of ``speeds``; the last is the stop."""
    rng = np.random.default_rng(seed)
    level = np.repeat(speeds, MOMENTS // len(speeds))[:, None]
    return level * rng.uniform(0.8, 1.2, (MOMENTS, 512))


def csv_text(amplitudes: np.ndarray) -> str:
    return "".join(f"{hertz},{value:.6f}\n" for hertz, value in enumerate(amplitudes))


def moment(number: int) -> str:
    return f"2022-02-10-05-{number // 60:02d}-{number % 60:02d}.csv"


def write_zip(folder: Path, name: str, files: dict[str, str]) -> Path:
    path = folder / f"{name}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.mkdir(name)
        for file in sorted(files, reverse=True):  # the order in the archive says nothing
            archive.writestr(f"{name}/{file}", files[file])
    return path


def recording(seed: int) -> dict[str, str]:
    return {moment(number): csv_text(row) for number, row in enumerate(spectra(seed))}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fan")
    for seed, name in enumerate(TASK):
        write_zip(folder, name, recording(seed))
    return folder


def refusal(kind: type[Skip2LoraError], call: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        call(*args, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_task_from_a_folder(source: Path) -> None:
    seen: list[str] = []
    task = fan.load_task("damage1", source, progress=seen.append)
    assert seen == TASK
    for part, (normal, damaged) in zip(task, ((0, 1), (2, 3), (4, 5)), strict=True):
        assert part.x.shape == (2 * MOMENTS, 256)
        assert part.x.dtype == np.float32
        assert part.x.flags.c_contiguous
        expected = np.concatenate([spectra(normal), spectra(damaged)])[:, :256]
        np.testing.assert_allclose(part.x, expected, atol=1e-6)
        assert part.y is not None
        assert part.y.dtype == np.int64
        assert part.y.tolist() == [1] * 30 + [0] * 10 + [2] * 30 + [0] * 10
        assert part.class_names == ("stop", "normal", "damaged")
        assert part.feature_names is not None
        assert (part.feature_names[0], part.feature_names[255]) == ("0 Hz", "255 Hz")


def test_unpacked_folders_read_the_same(source: Path, tmp_path: Path) -> None:
    for name in TASK:
        with zipfile.ZipFile(source / f"{name}.zip") as archive:
            archive.extractall(tmp_path)
    (tmp_path / TASK[0] / "._hidden.csv").write_bytes(b"\0\1")
    (tmp_path / TASK[0] / "notes.txt").write_text("loud day")
    zipped, unpacked = fan.load_task("damage1", source), fan.load_task("damage1", str(tmp_path))
    for one, other in zip(zipped, unpacked, strict=True):
        np.testing.assert_array_equal(one.x, other.x)
        np.testing.assert_array_equal(one.y, other.y)


def test_recordings_of_other_fans_and_places(tmp_path: Path) -> None:
    normal = write_zip(tmp_path, "8cm_hmlo_normal_garage_7", recording(1))
    damaged = write_zip(tmp_path, "8cm_hmlo_cracked_garage_7", recording(2))
    samples = fan.load_pair(normal, damaged)
    assert samples.y is not None
    assert np.bincount(samples.y).tolist() == [20, 30, 30]


def test_zips_made_on_a_mac(tmp_path: Path) -> None:
    files = recording(1)
    path = write_zip(tmp_path, "mac", files)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/mac/._" + moment(0), b"\0\5\x16\7")
    assert fan.read_recording(path).shape == (MOMENTS, 512)


@pytest.mark.parametrize(
    "speeds",
    [(0.2, 0.16, 0.13, 0.07), (0.9, 0.3, 0.1, 0.05), (0.4, 0.4, 0.4, 0.2), (0.3, 0.1)],
    ids=["recorded", "big first drops", "one speed", "two halves"],
)
def test_stop_is_the_last_drop(speeds: tuple[float, ...]) -> None:
    stop = MOMENTS - MOMENTS // len(speeds)
    for seed in range(20):
        assert fan.find_stop(spectra(seed, speeds).astype(np.float32)) == stop


def test_stop_in_spite_of_single_disturbed_moments() -> None:
    disturbed = spectra(0).astype(np.float32)
    disturbed[[12, 25]] *= 0.3  # a quiet moment while it runs
    disturbed[34] *= 5  # a knock on the table after it stopped
    assert fan.find_stop(disturbed) == 30


def test_silence_after_the_stop() -> None:
    silent = spectra(0).astype(np.float32)
    silent[30:] = 0
    assert fan.find_stop(silent) == 30


def test_no_stop(tmp_path: Path) -> None:
    steady = spectra(0, (0.2, 0.2)).astype(np.float32)
    assert "never drops for good" in refusal(DataError, fan.find_stop, steady)
    assert "never drops" in refusal(DataError, fan.find_stop, spectra(0)[::-1].copy())
    assert "5 moments, expected at least 6" in refusal(DataError, fan.find_stop, steady[:5])
    files = {moment(number): csv_text(row) for number, row in enumerate(steady)}
    path = write_zip(tmp_path, "12cm_h_normal", files)
    assert "12cm_h_normal.zip: the total" in refusal(DataError, fan.load_pair, path, path)


def test_task_and_folder_names(tmp_path: Path) -> None:
    assert "'damage3'" in refusal(ParameterError, fan.load_task, "damage3", tmp_path)
    assert "is not a folder" in refusal(FileError, fan.load_task, "damage1", tmp_path / "none")
    message = refusal(FileError, fan.load_task, "damage1", tmp_path)
    assert f"{tmp_path} has no 12cm_hmlo_normal_silentA_1.zip" in message


def test_missing_recording_is_the_one_named(source: Path, tmp_path: Path) -> None:
    for name in TASK[:3]:
        (tmp_path / f"{name}.zip").write_bytes((source / f"{name}.zip").read_bytes())
    assert f"has no {TASK[3]}.zip" in refusal(FileError, fan.load_task, "damage1", tmp_path)
    assert "cannot read" in refusal(FileError, fan.read_recording, tmp_path / "none.zip")


def test_damaged_zip(tmp_path: Path) -> None:
    path = write_zip(tmp_path, "a", recording(0))
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[5000] ^= 1
    for content in (whole[:-100], whole[: len(whole) // 2], b"", b"hello", bytes(changed)):
        path.write_bytes(content)
        message = refusal(DataError, fan.read_recording, path)
        assert f"{path} is damaged" in message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("7,", "x,"), "line 8 is 'x,"),
        (("7,", "7;"), "line 8 is '7;"),
        (("\n7,", "\n9,"), "line 8 has index 9, expected 7"),
        (("511,", "\n511,"), "line 512 is ''"),
        (("7,0.", "7,nan0."), "line 8 is '7,nan0."),
        (("7,0.", "7,3."), "line 8 has amplitude 3."),
        (("7,0.", "7,-0."), "line 8 has amplitude -0."),
        (("0,0.", "1,0."), "line 1 has index 1, expected 0"),
    ],
)
def test_damaged_line(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    files = recording(0)
    files[moment(3)] = files[moment(3)].replace(*change, 1)
    path = write_zip(tmp_path, "a", files)
    message = refusal(DataError, fan.read_recording, path)
    assert f"a.zip: a/{moment(3)} {said}" in message


@pytest.mark.parametrize("value", ["nan", "inf", "1.5", "-0.1"])
def test_amplitude_out_of_range(tmp_path: Path, value: str) -> None:
    files = recording(0)
    lines = files[moment(5)].splitlines()
    lines[100] = f"100,{value}"
    files[moment(5)] = "\n".join(lines)
    path = write_zip(tmp_path, "a", files)
    message = refusal(DataError, fan.read_recording, path)
    assert f"line 101 has amplitude {value}, expected 0 to 1" in message


def test_number_of_lines(tmp_path: Path) -> None:
    files = recording(0)
    files[moment(2)] = files[moment(2)].rpartition("511,")[0]
    short = write_zip(tmp_path, "short", files)
    assert f"{moment(2)} has 511 lines, expected 512" in refusal(
        DataError, fan.read_recording, short
    )
    files[moment(2)] += "511,0.1\n512,0.1\n"
    long = write_zip(tmp_path, "long", files)
    assert "513 lines" in refusal(DataError, fan.read_recording, long)


def test_recording_without_a_spectrum(tmp_path: Path) -> None:
    assert "no .csv" in refusal(DataError, fan.read_recording, tmp_path)
    assert "no .csv" in refusal(DataError, fan.read_recording, write_zip(tmp_path, "a", {}))


class Server(http.server.ThreadingHTTPServer):
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.cut = False
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        self.server.asked.append(name)
        file = self.server.folder / name
        if not file.exists():
            self.send_error(404)
            return
        content = file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.server.cut else content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(source: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in TASK:
        digest = hashlib.sha256((source / f"{name}.zip").read_bytes()).hexdigest()
        monkeypatch.setitem(fan.SHA256, name.removeprefix("12cm_hmlo_"), digest)
    with Server(source) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pooch = pytest.importorskip("pooch", reason="the extra 'data' is not installed")
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setattr(pooch.core.time, "sleep", lambda _: None)  # the pause before a retry
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache" / "skip2lora"


def fetched(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.glob("*"))


def test_fetch_the_six_that_are_needed_once(
    source: Path, server: Server, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []
    task = fan.load_task("damage1", base_url=server.url, progress=seen.append)
    assert seen == TASK
    assert server.asked == [f"{name}.zip" for name in TASK]
    assert fetched(cache) == sorted(server.asked)
    local = fan.load_task("damage1", source)
    for one, other in zip(task, local, strict=True):
        np.testing.assert_array_equal(one.x, other.x)
    fan.load_task("damage1", base_url=server.url)
    assert len(server.asked) == 6  # the second time nothing is fetched
    assert capfd.readouterr() == ("", "")


def test_fetch_again_what_the_cache_has_damaged(server: Server, cache: Path) -> None:
    fan.load_task("damage1", base_url=server.url)
    (cache / f"{TASK[2]}.zip").write_bytes(b"half")
    fan.load_task("damage1", base_url=server.url)
    assert server.asked[6:] == [f"{TASK[2]}.zip"]


def test_wrong_checksum(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fan.SHA256, "normal_silentA_1", "0" * 64)
    message = refusal(DataError, fan.load_task, "damage1", base_url=server.url)
    assert f"{TASK[0]}.zip has another SHA-256 than expected" in message
    assert fetched(cache) == []
    assert len(server.asked) == 2  # once, and one retry


def test_cut_transfer(server: Server, cache: Path) -> None:
    server.cut = True
    message = refusal(FileError, fan.load_task, "damage1", base_url=server.url)
    assert "could not be reached" in message
    assert "source=DIR" in message
    assert fetched(cache) == []
    assert len(server.asked) == 2


def test_server_without_the_file(server: Server, cache: Path, tmp_path: Path) -> None:
    server.folder = tmp_path
    message = refusal(FileError, fan.load_task, "damage1", base_url=server.url)
    assert "the server answered 404" in message
    assert fetched(cache) == []


def test_offline(cache: Path) -> None:
    with socket.socket() as taken:  # bound, not listening: a connection is refused at once
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        message = refusal(FileError, fan.load_task, "damage1", base_url=url)
    assert f"{url}{TASK[0]}.zip could not be reached" in message
    assert "source=DIR" in message
    assert fetched(cache) == []


def test_cache_that_cannot_be_written(server: Server, cache: Path) -> None:
    cache.parent.parent.joinpath("cache").write_text("a file where the folder should be")
    message = refusal(FileError, fan.load_task, "damage1", base_url=server.url)
    assert "cannot keep" in message
    assert "source=DIR" in message


def test_pooch_is_quiet_meanwhile_and_as_loud_as_before_afterwards(
    server: Server, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logger = pytest.importorskip("pooch").get_logger()  # none of those that logging knows by name
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(caplog.handler)
    try:
        fan.load_task("damage1", base_url=server.url)
        assert caplog.records == []
        assert logger.level == logging.INFO
    finally:
        logger.removeHandler(caplog.handler)
        logger.setLevel(before)


def test_without_pooch(monkeypatch: pytest.MonkeyPatch) -> None:
    normal = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name == "pooch":
            raise ImportError(name)
        return normal(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    message = refusal(MissingExtraError, fan.load_task, "damage1")
    assert "pip install 'skip2lora[data]'" in message
