"""Fan tasks: is the fan stopped, normal or damaged? Vibration spectra of 12 cm cooling fans.

The recordings are those of Sunaga, Kondo and Matsutani, "Addressing Gap between Training Data and
Deployed Environment by On-Device Learning", IEEE Micro 43(6), 2023. They state no licence, so they
are never shipped: the user has them in a folder, or they are fetched from their authors' page.

A recording is a zip (or the folder it unpacks to) of CSV files named by their time, one a moment.
Each holds 512 lines ``index, amplitude``: index 0..511 Hz, amplitude in [0, 1]. The fan runs at
high, middle and low speed and then stops, which the total amplitude shows.
"""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from skip2lora.data.samples import LabelledSamples
from skip2lora.datasets import Split
from skip2lora.errors import DataError, FileError, MissingExtraError, ParameterError, brief
from skip2lora.files import BAD_ZIP, unreadable

CLASS_NAMES = ("stop", "normal", "damaged")
STOP, NORMAL, DAMAGED = range(3)
N_LINES = 512
N_FEATURES = 256
BASE_URL = (
    "https://raw.githubusercontent.com/matutani/cooling-fan/"
    "fcd19b750f7c50bf145907063b0ff1047e73c010/DATA/"
)
RECORDINGS = "12cm_hmlo_"
SHA256 = {
    "damage1_noisy_1": "7795fd2741062d5c51ffb4b01927ca7ea4d5352eb6b6f1efc65c1c2f8007be0d",
    "damage1_noisy_2": "b268d5b8cc2b742f60a01ee765267b0084d50a29ccc358adf30d379cb2acfd55",
    "damage1_silentA_1": "eb41e3d247dccf1ba26eea1717f35ce142d0f704817eb30233bb0d58d701715d",
    "damage1_silentA_2": "3c00a833387b05ccf2558d37fa564e747dcfa0bf0719a9ca3747e487ec2b0eb1",
    "damage2_noisy_1": "9cce3d67746930fbc31cb332ff70ced1a43f23aefbc36da924c4e12650ba4983",
    "damage2_noisy_2": "9fee65602474a321328ba4103135bf42de47b5f14eac150a7ab4b451679d37c1",
    "damage2_silentA_1": "84f31ef22fa241fae8cd96dcb251ac9b5be4297739288bcdf1feca1b8f8fb03d",
    "damage2_silentA_2": "01ef93c3e1e7473b218011c2ecfd89b16908732b7dae281aa8581b76c00bff2c",
    "normal_noisy_1": "8266c411194f6aa71b814d1c1c43c141425c0a825c7600e0e943864eaa17a285",
    "normal_noisy_2": "3ea395d09681c054de21bd6c94161bc92be268df5e1f1630de2dce76d788b7e8",
    "normal_silentA_1": "5a2b0281bf97e0849001c4cea456b2bb670a463ce1acacc22288d55cdf817f0f",
    "normal_silentA_2": "c70961379f2020b76ad48d575703278f238b6f6b4a11cf6cc28f5e447fe002ad",
}

# The parts of a task by place and take: split by recording, since rows of one recording that land
# on both sides of a random split give the answer away.
_PARTS = ("silentA_1", "noisy_2", "noisy_1")


def load_task(
    name: str,
    source: str | os.PathLike[str] | None = None,
    *,
    progress: Callable[[str], None] | None = None,
    base_url: str = BASE_URL,
) -> Split:
    """Return the pre-training, fine-tuning and test samples of a fan task, (470, 256) each.

    ``damage1`` has a fan with holes, ``damage2`` one with a chipped blade. Pre-training is the
    silent office, fine-tuning and test are two recordings beside a ventilation fan. Features are
    the amplitudes of 0..255 Hz as recorded; labels 0 stop, 1 normal, 2 damaged.

    ``source`` is a folder with the recordings ``12cm_hmlo_*`` as zips or unpacked; None fetches
    the six that are needed into the user's cache folder (extra ``data``). ``progress`` is called
    with the name of each recording before it is read. ``base_url`` is for tests.

    Raises:
        ParameterError: another name than those two.
        FileError: a recording is missing, cannot be read or cannot be fetched.
        DataError: a recording is damaged.
        MissingExtraError: fetching needs pooch, which is not installed.
    """
    if name not in ("damage1", "damage2"):
        raise ParameterError(
            f"got fan task {name!r}, expected damage1 or damage2: pass one of them"
        )
    folder = None if source is None else Path(source)
    if folder is not None and not folder.is_dir():
        raise FileError(
            f"{folder} is not a folder, expected the one that holds the fan recordings: "
            "check the path"
        )

    def locate(recording: str) -> Path:
        if progress is not None:
            progress(RECORDINGS + recording)
        return _fetch(recording, base_url) if folder is None else _find(recording, folder)

    parts = []
    for part in _PARTS:
        normal = locate(f"normal_{part}")
        damaged = locate(f"{name}_{part}")
        parts.append(load_pair(normal, damaged))
    return Split(*parts)


def load_pair(normal: str | os.PathLike[str], damaged: str | os.PathLike[str]) -> LabelledSamples:
    """Return the samples of a recording of a normal fan followed by one of a damaged fan.

    The moments after the stop, which is found from the amplitude, are labelled 0 stop in both.

    Raises:
        FileError, DataError: see :func:`read_recording` and :func:`find_stop`.
    """
    spectra, labels = [], []
    for path, running in ((Path(normal), NORMAL), (Path(damaged), DAMAGED)):
        recording = read_recording(path)
        try:
            stop = find_stop(recording)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        spectra.append(recording[:, :N_FEATURES])
        labels.append(np.where(np.arange(len(recording)) < stop, running, STOP))
    return LabelledSamples(
        x=np.concatenate(spectra),
        y=np.concatenate(labels).astype(np.int64),
        class_names=CLASS_NAMES,
        feature_names=tuple(f"{hertz} Hz" for hertz in range(N_FEATURES)),
    )


def find_stop(recording: NDArray[np.float32]) -> int:
    """Return the index of the first moment at which the fan no longer runs.

    ``recording`` is (moments, lines), in order of time, with the stop at its end. The total
    amplitude drops whenever the speed does, and a drop is wide when nearly all that comes before
    lies above nearly all that comes after: the gap from the lower tenth before to the upper tenth
    after. (Tenths, because single moments are disturbed.) The stop is the last drop at least half
    as wide as the widest. Then the boundary is put where fewest moments lie on the wrong side of
    the middle of that gap.

    Raises:
        DataError: too few moments, or no drop.
    """
    total = np.log(recording.sum(axis=1, dtype=np.float64) + 1e-6)
    n_moments = total.size
    least = max(3, n_moments // 20)
    if n_moments < 2 * least:
        raise DataError(
            f"the recording has {n_moments} moments, expected at least 6: is it complete?"
        )
    splits = range(least, n_moments - least + 1)
    above = np.array([np.quantile(total[:split], 0.1) for split in splits])
    below = np.array([np.quantile(total[split:], 0.9) for split in splits])
    gap = above - below
    if gap.max() < np.log(1.1):
        raise DataError(
            "the total amplitude never drops for good, expected a fan that stops at the end: "
            "is this an hmlo recording?"
        )
    wide = np.flatnonzero(gap >= gap.max() / 2)
    last_drop = np.split(wide, np.flatnonzero(np.diff(wide) > 1) + 1)[-1]
    widest = last_drop[np.argmax(gap[last_drop])]
    running = total >= (above[widest] + below[widest]) / 2
    quiet_before = np.concatenate(([0], np.cumsum(~running)))
    loud_after = running.sum() - np.concatenate(([0], np.cumsum(running)))
    return int(np.argmin(quiet_before + loud_after))


def read_recording(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """Return the spectra of a recording, (moments, 512) float32, in order of time.

    ``path`` is a zip or a folder of CSV files; their names sort by time.

    Raises:
        FileError: the recording is missing or the system refuses to read it.
        DataError: it is damaged; the message names the file and, where known, the line.
    """
    source = Path(path)
    files = _folder_files(source) if source.is_dir() else _zip_files(source)
    spectra = [
        _parse_spectrum(content, f"{source}: {name}")
        for name, content in sorted(files, key=lambda file: PurePosixPath(file[0]).name)
    ]
    if not spectra:
        raise DataError(f"{source} holds no .csv file, expected one a moment: is it a recording?")
    return np.stack(spectra)


def _is_spectrum(name: PurePosixPath | Path) -> bool:
    # Zips made on a Mac hold a hidden "__MACOSX/._name.csv" beside each file.
    return name.suffix.lower() == ".csv" and not name.name.startswith(".")


def _folder_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for file in folder.rglob("*"):
        if _is_spectrum(file):
            try:
                yield str(file.relative_to(folder)), file.read_bytes()
            except OSError as error:
                raise unreadable(file, error) from error


def _zip_files(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if _is_spectrum(PurePosixPath(name)):
                    yield name, archive.read(name)
    except OSError as error:
        raise unreadable(path, error) from error
    except BAD_ZIP as error:
        raise DataError(
            f"{path} is damaged ({error}), expected a zip of CSV files: fetch or copy it again"
        ) from error


def _parse_spectrum(content: bytes, place: str) -> NDArray[np.float32]:
    """Return the 512 amplitudes of one CSV file; ``place`` names it in errors."""
    lines = content.decode("utf-8", errors="replace").splitlines()
    values = np.empty(N_LINES, np.float32)
    for number, line in enumerate(lines[:N_LINES]):
        index, _, amplitude = line.partition(",")
        try:
            hertz, value = int(index), float(amplitude)
        except ValueError:
            raise DataError(
                f"{place} line {number + 1} is {brief(line)!r}, expected 'index,amplitude': "
                "fetch or copy the damaged file again"
            ) from None
        if hertz != number:
            raise DataError(
                f"{place} line {number + 1} has index {hertz}, expected {number}, lines in "
                "order: fetch or copy the file again"
            )
        if not 0.0 <= value <= 1.0:  # false for NaN too
            raise DataError(
                f"{place} line {number + 1} has amplitude {brief(amplitude.strip())}, expected 0 "
                "to 1: fetch or copy the damaged file again"
            )
        values[number] = value
    if len(lines) != N_LINES:
        raise DataError(
            f"{place} has {len(lines)} lines, expected {N_LINES}: "
            "fetch or copy the damaged file again"
        )
    return values


def _find(recording: str, folder: Path) -> Path:
    name = RECORDINGS + recording
    for path in (folder / f"{name}.zip", folder / name):
        if path.exists():
            return path
    raise FileError(
        f"{folder} has no {name}.zip and no folder of that name, expected the recordings of "
        "github.com/matutani/cooling-fan there: copy them, or leave out source= to fetch them"
    )


def _fetch(recording: str, base_url: str) -> Path:
    """Return the path of a recording in the user's cache folder, fetched now if not there yet."""
    try:
        import pooch
    except ImportError as error:
        raise MissingExtraError(
            "fetching the fan recordings needs pooch: pip install 'skip2lora[data]', "
            "or pass source=DIR with the recordings"
        ) from error
    file = f"{RECORDINGS}{recording}.zip"
    cache = pooch.create(
        path=pooch.os_cache("skip2lora"),
        base_url=base_url,
        registry={file: f"sha256:{SHA256[recording]}"},
        retry_if_failed=1,
    )
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # the caller has its own progress, and errors are raised
    # Not as a stream: a recording is small, and a stream that breaks off leaves its socket open.
    downloader = pooch.HTTPDownloader(timeout=30, stream=False)
    try:
        return Path(cache.fetch(file, downloader=downloader))
    except OSError as error:
        raise _not_fetched(file, base_url, cache.path, error) from error
    except ValueError as error:
        raise DataError(
            f"{base_url}{file} has another SHA-256 than expected and was not kept: try again "
            "or pass source=DIR with the recordings"
        ) from error
    finally:
        logger.setLevel(level)


def _not_fetched(file: str, base_url: str, cache: object, error: OSError) -> FileError:
    """Tell a disk that refuses from a server that does: only the first carries an errno."""
    if error.errno is not None or isinstance(error, PermissionError):
        reason = error.strerror or "no permission"
        return FileError(
            f"cannot keep {file} in {cache} ({reason}), expected room: free space, or pass "
            "source=DIR with the recordings"
        )
    status = getattr(getattr(error, "response", None), "status_code", None)
    reason = type(error).__name__ if status is None else f"the server answered {status}"
    return FileError(
        f"{base_url}{file} could not be reached ({reason}), expected it there: connect to the "
        "network, or pass source=DIR with the recordings"
    )
