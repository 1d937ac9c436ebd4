"""Kill a service at random moments while it is labelled, learns and adopts; see what is left.

A child answers each label with a line on a pipe once ``label`` returned. After SIGKILL each of
these must be in the store, a whole version in use, and nothing left over.

    python tests/serve/killed.py --kills 200
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serve.place import field, service


@dataclass(frozen=True)
class Left:
    """What a kill left: labels that were acknowledged, and how long the next start took."""

    acknowledged: int
    version: int
    seconds: float


def _child(store: Path, pipe: int, seed: int) -> None:
    """Use the service until this is killed."""
    choice = np.random.default_rng(seed)
    x, names = field(seed, n_samples=60)
    with service(store) as served:
        os.write(pipe, b"ready\n")
        while True:
            ids = served.predict(x).ids
            for at in choice.permutation(60)[:6].tolist():
                served.label(ids[at], names[at])
                os.write(pipe, f"{ids[at]} {names[at]}\n".encode())
            served.learn()
            served.adopt(int(choice.choice([each["number"] for each in served.versions()[-3:]])))


def kill_once(store: Path, seed: int, seconds: float) -> list[tuple[int, str]]:
    """Run a child, kill it so long after it is ready; the labels that it was told are kept."""
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
        os.kill(child, signal.SIGKILL)
        said = lines.read()
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it ended by itself"
    whole = said[: said.rfind("\n") + 1].splitlines()
    return [(int(id), name) for id, name in (line.split() for line in whole)]


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
        every += kill_once(store, seed + number, choice.uniform(0, 1.0))
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
