"""Kill a service at random moments while it is labelled, learns and adopts; see what is left.

A child answers each label with a line on a pipe once ``label`` returned. After SIGKILL each of
these must be in the store, a whole version in use, and nothing left over: no process that learns,
either. One time in three a process that learns is killed before, and the service must go on.

    PYTHONPATH=tests python -m serve.killed --kills 200
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from serve.place import field, service
from skip2lora.serve.nursery import EndedError

_ENDS_S = 10  # in which processes must have ended


@dataclass(frozen=True)
class Left:
    """What a kill left: labels that were acknowledged, and how long the next start took."""

    acknowledged: int
    version: int
    seconds: float


def below(process: int) -> list[int]:
    """The processes that one made, and those that these made; none where the system says none."""
    with suppress(OSError):
        text = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
        return [each for child in text.split() for each in (int(child), *below(int(child)))]
    return []


def ended(processes: list[int]) -> bool:
    """Whether all of them end soon."""
    until = time.monotonic() + _ENDS_S
    while any(Path(f"/proc/{each}").exists() for each in processes):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def _child(store: Path, pipe: int, seed: int) -> None:
    """Use the service until this is killed."""
    choice = np.random.default_rng(seed)
    x, names = field(seed, n_samples=60)
    with service(store, apart=True) as served:
        os.write(pipe, b"ready\n")
        while True:
            ids = served.predict(x).ids
            for at in choice.permutation(60)[:6].tolist():
                served.label(ids[at], names[at])
                os.write(pipe, f"{ids[at]} {names[at]}\n".encode())
            with suppress(EndedError):  # it was killed twice
                served.learn()
            served.adopt(int(choice.choice([each["number"] for each in served.versions()[-3:]])))


def kill_once(
    store: Path, seed: int, seconds: float, *, learner: bool = False
) -> list[tuple[int, str]]:
    """Run a child, kill it so long after it is ready; the labels that it was told are kept.

    With ``learner`` what learns is killed before, and it waits until a label was told after that.
    """
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reads)
        try:
            _child(store, writes, seed)
        finally:
            os._exit(1)  # only if it failed
    os.close(writes)
    with os.fdopen(reads) as lines:
        assert lines.readline() == "ready\n", "the service did not start"
        time.sleep(seconds)
        said = _without_learner(child, lines) if learner else ""
        processes = below(child)
        os.kill(child, signal.SIGKILL)
        said += lines.read()
    assert ended(processes), "what learns is left over"
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it ended by itself"
    whole = said[: said.rfind("\n") + 1].splitlines()
    return [(int(id), name) for id, name in (line.split() for line in whole)]


def _without_learner(child: int, lines: IO[str]) -> str:
    """Kill the newest process that learns, or waits to; what was said until a while after."""
    said = ""
    for process in below(child)[-1:]:
        with suppress(ProcessLookupError):  # it has learned
            os.kill(process, signal.SIGKILL)
        marker = time.monotonic()
        while time.monotonic() < marker + 0.2:
            said += lines.readline()
        assert said, "it does not go on"
    return said


def look(store: Path, acknowledged: list[tuple[int, str]]) -> Left:
    """Start again; raise AssertionError where something acknowledged is lost, or half there."""
    began = time.perf_counter()
    served = service(store)
    seconds = time.perf_counter() - began
    with served:
        given = {(each["sample"], each["answer"]) for each in served.labels()}
        lost = [each for each in acknowledged if each not in given]
        assert not lost, f"lost: {lost}"
        x, _ = field(2, n_samples=9)
        answers = served.predict(x)
        expected = served.model.predict_proba(x)
        assert np.array_equal(answers.probabilities, expected), "not the version in use"
        assert not {each[0] for each in acknowledged} & set(answers.ids), "a number given twice"
        folders = [each.name for each in (store / "versions").iterdir()]
        assert all(name.isdecimal() for name in folders), f"left over: {folders}"
        assert served.version in {0, *map(int, folders)}
        return Left(len(acknowledged), served.version, seconds)


def kills(store: Path, count: int, *, seed: int = 0) -> list[Left]:
    """So many kills of one store, each checked."""
    choice = np.random.default_rng(seed)
    every: list[tuple[int, str]] = []
    left = []
    for number in range(count):
        seconds, learner = choice.uniform(0, 1.0), number % 3 == 2
        every += kill_once(store, seed + number, seconds, learner=learner)
        left.append(look(store, every))
    return left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        left = kills(Path(folder) / "store", asked.kills, seed=asked.seed)
    versions = len({each.version for each in left})
    slowest = max(each.seconds for each in left)
    print(
        f"{asked.kills} kills, {left[-1].acknowledged} acknowledged labels, none lost; "
        f"{versions} versions were in use; slowest start {slowest:.2f} s"
    )


if __name__ == "__main__":
    main()
