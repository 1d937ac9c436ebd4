"""Stop every writing command at each step of its writing and at random times; see what is left.

A warm process forks a child for each run. The child counts its steps (opening, syncing, renaming,
removing, locking) and stops itself at one of them, by SIGKILL or by a signal that it answers. Then
the old or the new result must be there, whole, and after another run nothing else.

    python tests/killing.py --kills 500 --signals 200
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle, product
from pathlib import Path

import numpy as np
import onnxruntime  # noqa: F401  (what all children need is imported once)

import onnx_models
import pretending
import skip2lora.cli.demo
import skip2lora.cli.paper  # noqa: F401
from desk import blobs
from paper.made_up import MACHINE, WIDTHS, made_up_run
from paper.trial_files import keep
from skip2lora import cli, replacing
from skip2lora.__main__ import STOPS, leave
from skip2lora.cli import COMMANDS, group, run
from skip2lora.demo import run_demo
from skip2lora.methods import METHODS
from skip2lora.paper.timing_tables import TimeTable
from skip2lora.paper.timings import MethodTimes
from skip2lora.replacing import sweep

#: Other events of Python are no steps of writing.
STEPS = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "fcntl.flock", "os.scandir")
#: How a folder takes the place of another; the last is the second with what is else of Windows.
WAYS = ("exchange", "two renames", "Windows")
Content = dict[str, bytes]


@dataclass(frozen=True)
class Job:
    """A command that writes ``outputs``; ``old`` and ``new`` fill in what tells both results.

    One that does not ask replaces what it wrote before without ``--force``.
    """

    words: str
    outputs: tuple[str, ...]
    old: str
    new: str
    asks: bool = True

    def command(self, variant: str, *, force: bool = True) -> list[str]:
        return [*self.words.format(variant).split(), *(["--force"] if force and self.asks else [])]


_FIT = "--epochs 2 --seed {}"
JOBS = {
    "adapt": Job(f"adapt m.safetensors field.npz -o out {_FIT}", ("out",), "1", "2"),
    "adapt a network": Job(
        f"adapt m.safetensors field.npz -o out --method ft-all {_FIT}", ("out",), "1", "2"
    ),
    "adapt --power": Job(
        f"adapt m.safetensors field.npz -o out --power {_FIT}", ("out",), "1", "2"
    ),
    "adapt-many": Job(
        f"adapt-many m.safetensors devices -o many {_FIT}", ("many/field",), "1", "2"
    ),
    "pretrain": Job(f"pretrain lab.npz --hidden 9 -o out.safetensors {_FIT}",
                    ("out.safetensors",), "1", "2"),
    "prepare": Job("prepare {}.onnx -o out.onnx", ("out.onnx",), "a", "b"),
    "export": Job("export a.onnx --adapter {} --to onnx -o out.onnx", ("out.onnx",), "a1", "a2"),
    "export a pair": Job(
        "export a.onnx --adapter {} --to onnx-adapter -o out.onnx",
        ("out.onnx", "out.onnx_adapter"), "a1", "a2",
    ),
    "merge": Job("merge a1 a2 --rank {} -o out", ("out",), "1", "2"),
    "predict": Job("predict m.safetensors {}.npz -o out.csv", ("out.csv",), "lab", "field"),
    "dataset": Job("dataset simulated --seed {} -o out", ("out",), "1", "2"),
    "demo": Job("demo --seed {}", ("demo/curve.png",), "1", "2", asks=False),
    "paper, a table": Job(
        "paper table6 --data . --task damage1 --trials {}", ("report/table6.json",), "1", "2",
        asks=False,
    ),
    "paper, a figure": Job(
        "paper fig3 --data . --task damage1 --trials {}", ("report/fig3.png",), "1", "2",
        asks=False,
    ),
}  # fmt: skip


def measure_beforehand() -> None:
    """What demo and paper take seconds for, so that runs are stopped while they write."""
    demos = {seed: run_demo(seed=seed) for seed in (1, 2)}
    cli.demo.run_demo = lambda *, seed, **_: demos[seed]  # type: ignore[assignment]

    def times(_: str, __: Path, ___: object, n_runs: int) -> TimeTable:
        runs = {name: (made_up_run(1.0),) * n_runs for name in METHODS}
        return TimeTable(MethodTimes("fan", WIDTHS, 300, 470, 1.0, runs), MACHINE)

    cli.paper._measure = times  # type: ignore[assignment]


def set_up() -> int:
    """Data, models and adapters in the working directory."""
    for folder in ("demo", "devices", "many"):
        Path(folder).mkdir()
    for seed in (0, 1):
        numbers = {"accuracy": [0.5, 0.9 + seed / 20], "cache_fill_ms": 2.0}
        keep(Path("report"), "curve", "damage1", seed, numbers | {"training_ms_an_epoch": 0.25})
    for name, shift in (("lab", 0.0), ("field", 3.0)):
        x, y = blobs(1, shift=shift)
        np.savez(f"{name}.npz", X=x, y=y)
    shutil.copy("field.npz", "devices")
    for seed, name in enumerate("ab"):
        onnx_models.save(onnx_models.mlp([12, 8, 6, 3], seed=seed), Path(f"{name}.onnx"))
    for line in (
        "pretrain lab.npz --hidden 8,8 --epochs 9 -o m.safetensors",
        "adapt a.onnx field.npz --epochs 2 --rank 1 -o a1",
        "adapt a.onnx field.npz --epochs 2 --rank 2 -o a2",
    ):
        if run(line.split()):
            return 1
    return 0


def content(names: tuple[str, ...]) -> Content:
    """Every file of these outputs."""
    files = [Path(name) for name in names if Path(name).is_file()]
    files += [file for name in names for file in Path(name).rglob("*") if file.is_file()]
    return {str(file): file.read_bytes() for file in files}


def names() -> set[str]:
    """What is in the working directory."""
    return {path.name for path in Path().iterdir()}


@dataclass(frozen=True)
class Ended:
    status: int
    steps: int
    said: str
    seconds: float


def forked(
    work: Callable[[], int], *, at: int = -1, number: int = 0, after: float | None = None,
    way: str = "exchange",
) -> Ended:  # fmt: skip
    """Run ``work`` in a child that gets signal ``number`` at its step ``at``, or after seconds."""
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as steps:
        began = time.monotonic()
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        child = os.fork()
        if child == 0:
            code = 99
            try:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
                _watch(steps.fileno(), at, number, way)
                code = work()
                sys.stdout.flush()
            finally:
                os._exit(code)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        if after is not None:
            time.sleep(after)
            os.kill(child, number)
        _, status = os.waitpid(child, 0)
        seconds = time.monotonic() - began
        said.seek(0)
        return Ended(status, os.fstat(steps.fileno()).st_size, said.read().decode(), seconds)


def _watch(log: int, at: int, number: int, way: str) -> None:
    """Count steps as bytes of a file; send the signal before the one of number ``at``."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        os.write(log, b".")
        if count - 1 == at:
            os.kill(os.getpid(), number)

    def hook(event: str, words: tuple[object, ...]) -> None:
        if event in STEPS or (event == "open" and ".skip2lora-" in str(words[0])):
            step()

    def before(call: Callable[..., object]) -> Callable[..., object]:
        def stepping(*words: object) -> object:
            step()
            result = call(*words)
            step()
            return result

        return stepping

    if way == "Windows":
        pretending.windows()
    os.fsync = before(os.fsync)
    step_of = replacing.exchange if way == "exchange" else lambda *_: False
    replacing.exchange = before(step_of)
    sys.addaudithook(hook)


@dataclass
class Trials:
    """Runs of one job in the working directory, which holds what ``set_up`` made and no more."""

    name: str
    job: Job
    force: bool
    way: str

    def prepare(self) -> int:
        """Write old and new once, keep both, and count the steps of a run."""
        self.before = names()
        self.old: Content = {}
        self.finish("old")
        if self.force:
            self.old = content(self.job.outputs)
        self.kept = Path(tempfile.mkdtemp())
        for name in self.job.outputs if self.force else ():
            (self.kept / name).parent.mkdir(exist_ok=True)
            shutil.move(name, self.kept / name)
        self.clear()
        ended = self.run()
        self.new = content(self.job.outputs)
        assert ended.status == 0, ended
        assert self.new, self.name
        assert self.new != self.old
        self.seconds = ended.seconds
        return ended.steps

    def run(self, **stop: object) -> Ended:
        """Put the old result there, and run the command."""
        self.clear()
        for name in self.job.outputs if self.force else ():
            source = self.kept / name
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, name)
        words = self.job.command(self.job.new, force=self.force)
        return forked(lambda: run(words), way=self.way, **stop)  # type: ignore[arg-type]

    def finish(self, variant: str) -> None:
        """A run that nothing stops."""
        words = self.job.command(getattr(self.job, variant))
        ended = forked(lambda: run(words), way=self.way)
        assert ended.status == 0, ended

    def clear(self) -> None:
        for name in self.job.outputs:
            shutil.rmtree(name, ignore_errors=True)
            Path(name).unlink(missing_ok=True)

    def faults(self, ended: Ended, number: int) -> Iterator[str]:
        """What is wrong after a run that got signal ``number``, and after another run."""
        if self.way != "exchange":  # as whoever reads or writes it next does
            for name in self.job.outputs:
                sweep(Path(name).absolute())
        state = content(self.job.outputs)
        if state not in (self.old, self.new) and not (number == signal.SIGKILL and self.is_pair()):
            yield f"neither old nor new: {sorted(state)}"
        if number != signal.SIGKILL and ended.status:
            code = os.waitstatus_to_exitcode(ended.status)
            done = "nothing was written" if state == self.old else "was written"
            # Behind what it said of its result, where it was done but for the end.
            line = rf"(.*\n)?skip2lora: stopped by {STOPS[signal.Signals(number)]}, .*{done}\n"
            if code != 128 + number or not re.fullmatch(line, ended.said, re.DOTALL):
                yield f"code {code}, {sorted(state)} is there, said {ended.said!r}"
            if names() != self.before | {name.split("/")[0] for name in state}:
                yield f"left: {sorted(names() - self.before)}"
        self.finish("new")
        if content(self.job.outputs) != self.new:
            yield "another run gave something else"
        rest = names() - self.before - {*self.job.outputs}
        if rest:
            yield f"left after another run: {sorted(rest)}"

    def is_pair(self) -> bool:
        """Whether each of several outputs is whole: a step puts one of them in its place."""
        return len(self.job.outputs) > 1 and all(
            now in ({n: c for n, c in whole.items() if n == name} for whole in (self.old, self.new))
            for name in self.job.outputs
            for now in [content((name,))]
        )


def writing_commands() -> set[str]:
    """Those that take ``--force``."""
    import click

    context = click.Context(group)
    commands = {name: group.get_command(context, name) for name in COMMANDS}
    return {
        name for name, command in commands.items()
        if command and any("--force" in each.opts for each in command.params)
    }  # fmt: skip


@dataclass
class Tally:
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)


def kinds_of(only: str, chance: np.random.Generator, most: int) -> list[Trials]:
    """Every job with and without ``--force``, and where folders cannot change places.

    Where there are more than ``most``, every job comes before one comes twice.
    """
    kinds = [
        Trials(name, job, force, way)
        for (name, job), force, way in product(JOBS.items(), (True, False), WAYS)
        if only in ("", name) and (way == "exchange" or (force and job.outputs == ("out",)))
    ]
    kinds = [kinds[number] for number in chance.permutation(len(kinds))]
    turns: Counter[str] = Counter()
    keys = {}
    for kind in kinds:
        keys[id(kind)] = turns[kind.name]
        turns[kind.name] += 1
    return sorted(kinds, key=lambda kind: keys[id(kind)])[:most]


def try_all(kinds: list[Trials], kills: int, signals: int, chance: np.random.Generator) -> Tally:
    """Shared out among ``kinds``; one in five comes at a random time, the others at a step."""
    tally = Tally()
    for index, trials in enumerate(kinds):
        steps = trials.prepare()
        tally.counts["steps"] += steps
        numbers = [signal.SIGKILL] * len(range(index, kills, len(kinds)))
        stops = chance.integers(len(STOPS), size=len(range(index, signals, len(kinds))))
        numbers += [list(STOPS)[which] for which in stops]
        at = cycle(chance.permutation(steps).tolist())  # each once, before one comes again
        for number in numbers:
            stop = {"at": next(at)}
            if chance.random() < 0.2:
                stop = {"after": chance.uniform(0, trials.seconds)}
            ended = trials.run(number=number, **stop)
            tally.counts["kills" if number == signal.SIGKILL else "signals"] += 1
            tally.counts[f"ended with {os.waitstatus_to_exitcode(ended.status)}"] += 1
            tally.counts["one of a pair is new"] += trials.is_pair() and content(
                trials.job.outputs
            ) not in (trials.old, trials.new)
            for fault in trials.faults(ended, number):
                where = f"{trials.name}, force {trials.force}, {trials.way}"
                tally.faults[f"{where}, {signal.Signals(number).name} {stop}: {fault}"] += 1
        trials.clear()
        shutil.rmtree(trials.kept)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--signals", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", metavar="NAME", help="One of: " + ", ".join(JOBS))
    options = parser.parse_args()
    missing = writing_commands() - {job.words.split()[0] for job in JOBS.values()}
    if missing:
        sys.exit(f"no job for {missing}")
    for number in STOPS:  # as __main__ has it while modules are imported
        signal.signal(number, leave)
    chance = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        measure_beforehand()
        if forked(set_up).status:
            sys.exit("the files to start from could not be made")
        kinds = kinds_of(options.only, chance, max(1, (options.kills + options.signals) // 4))
        tally = try_all(kinds, options.kills, options.signals, chance)
        os.chdir("/")
    print(json.dumps({"counts": tally.counts, "faults": tally.faults}, indent=1))


if __name__ == "__main__":
    main()
