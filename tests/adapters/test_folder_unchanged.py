"""A folder that another process replaces is read whole, and put back where a run was killed."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import skip2lora as s2
from skip2lora.adapters.folder import (
    describe,
    is_adapter,
    model_beside,
    read_adapter,
    read_unchanged,
)
from skip2lora.errors import FileError

RANKS = (1, 3)
REPLACES = """
import os, signal, sys
from itertools import count, cycle
from pathlib import Path
from skip2lora import files, replacing
if sys.argv[1] == "two renames":
    replacing.exchange = lambda *_: False
versions = [{f.name: f.read_bytes() for f in Path(v).iterdir()} for v in sys.argv[2:4]]
calls, rename = count(), Path.rename
def watch(self, to):
    if next(calls) == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, to)
Path.rename = watch
print("in", flush=True)
for content in cycle(reversed(versions)):
    files.write_files("t", content, names=tuple(content))
"""


@pytest.fixture
def versions(
    make_model: Callable[..., s2.MLP], make_samples: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> list[str]:  # fmt: skip
    """Two adapters, ``1`` and ``3`` by their rank, in the working directory; ``t`` is as ``1``."""
    monkeypatch.chdir(tmp_path)
    make_model([8, 6, 5, 3]).save("m.safetensors")
    model = s2.load("m.safetensors")
    for rank in RANKS:
        adapted = s2.adapt(model, *make_samples(40), epochs=1, rank=rank)
        adapted.save(str(rank))
        if rank == 1:
            adapted.save("t")
    return [str(rank) for rank in RANKS]


@contextmanager
def replacing(*words: str, at: int = -1) -> Iterator[subprocess.Popen[bytes]]:
    """A process that replaces ``t`` by turns, until it is killed at its rename of number ``at``."""
    with subprocess.Popen(
        [sys.executable, "-c", REPLACES, *words, str(at)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("step", ["exchange", "two renames"])
def test_a_reader_sees_one_adapter_whole(step: str, versions: list[str]) -> None:
    expected = {rank: describe(rank) for rank in versions}
    seen: set[str] = set()
    until = time.monotonic() + 60
    with replacing(step, *versions) as process:
        for number in itertools.count():
            if number >= 300 and (seen == set(versions) or time.monotonic() > until):
                break
            about, tensors = read_adapter("t")
            shapes = {name: list(array.shape) for name, array in tensors.items()}
            assert shapes == expected[str(about.rank)]["tensors"]
            assert is_adapter("t")
            assert model_beside("t") == Path.cwd() / "m.safetensors"
            seen.add(str(about.rank))
        assert process.poll() is None
    assert seen == set(versions)
    read_adapter("t")  # wherever it was killed


@pytest.mark.parametrize("read", [is_adapter, model_beside, read_adapter])
def test_a_reader_puts_back_what_a_killed_run_moved_away(
    read: Callable[[str], object], versions: list[str]
) -> None:
    Path("link").symlink_to("t")
    with replacing("two renames", *versions, at=2) as process:  # 0 is refused, 1 moves it away
        process.wait()
    assert not Path("t").exists()
    assert read("link")
    assert read_adapter("t")[0].rank == RANKS[1]
    assert not list(Path().glob(".*"))


def test_a_reader_gives_up_on_a_folder_that_never_lasts(tmp_path: Path) -> None:
    def replace() -> None:
        (tmp_path / "t").rename(tmp_path / f"old{len(list(tmp_path.iterdir()))}")
        (tmp_path / "t").mkdir()

    (tmp_path / "t").mkdir()
    with pytest.raises(FileError, match="replaced all the time"):
        read_unchanged(tmp_path / "t", replace)


@pytest.mark.parametrize("name", [".", "none", "file", "file/none"])
def test_a_reader_hears_what_is_wrong_with_an_unchanged_folder(name: str, tmp_path: Path) -> None:
    calls: list[str] = []

    def refuse() -> None:
        calls.append(name)
        raise FileError("damaged")

    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="damaged"):
        read_unchanged(tmp_path / name, refuse)
    assert calls == [name]
