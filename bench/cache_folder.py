"""Ten calls of adapt with other options on one cache folder, against one fill and ten trainings.

    python bench/cache_folder.py MODEL.onnx [--kind arrays npz images] [--samples 120] [--rounds 7]

CPU time of the process. In a round each option runs without a folder and with it, in turn, and the
other way round in the next; each round has an empty folder, and each call on files opens it again,
as another command would, while calls on arrays, which are of one process, share a CacheFolder. A
training is the call without a folder less its forward passes; a fill is
the mean of these passes over the round. The passes of the call that fills the folder are counted as
one fill, too, so that their noise is on neither side: what remains is what the folder costs.
``ratio`` is of the median of each of the calls over the rounds, ``of_rounds`` of whole rounds.
Files are read before each call; ``reading`` has the ten on the left and one on the right.
A call begins once other programs leave the processor alone, or after ``--wait`` seconds; ``busy``
is what they took meanwhile. Medians of all rounds, with the smallest and the largest.
"""

from __future__ import annotations

from harness import ratios, shown, spread  # isort: skip  # first: one thread

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import skip2lora as s2
from skip2lora.adapters.rows import RowFormat
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.standins import StandIn
from skip2lora.data.image_layout import layout_of
from skip2lora.data.images import Images
from skip2lora.data.reading import read_table

OPTIONS: tuple[dict[str, Any], ...] = (
    {}, {"epochs": 50}, {"rank": 8}, {"learning_rate": 0.003}, {"epochs": 50, "seed": 1},
    {"optimizer": "momentum", "learning_rate": 0.01}, {"solver": "exact"}, {"validation": 0.2},
    {"solver": "exact", "penalty": 0.01}, {"batch_size": 10},
)  # fmt: skip
N_CLASSES, SETTLED = 10, 6.0  # seconds after which a file is one that lasts
KINDS = ("arrays", "npz", "images")


def write(kind: str, folder: Path, shape: tuple[int, ...], n_samples: int) -> Path | None:
    """Samples made by chance, in files; None for arrays."""
    random = np.random.default_rng(0)
    y = np.arange(n_samples) % N_CLASSES
    if kind == "images":
        from PIL import Image

        for at, label in enumerate(y):
            place = folder / f"class{label}"
            place.mkdir(exist_ok=True)
            small = random.integers(0, 255, (8, 8, 3), np.uint8)
            image = Image.fromarray(small).resize((shape[-1], shape[-2]), Image.Resampling.BICUBIC)
            image.save(place / f"{at:06}.jpg")
        return folder
    file = folder / "samples.npz"
    np.savez(file, X=random.random((n_samples, *shape), dtype=np.float32), y=y)
    return file


@dataclass
class Forwards:
    """CPU time of what passes the model itself, wherever rows come from."""

    seconds: float = 0.0

    @contextmanager
    def counted(self) -> Iterator[None]:
        own = RowFormat.compute

        def compute(rows: RowFormat, backbone: Backbone, *given: Any) -> None:
            if isinstance(backbone, StandIn) and backbone.reads:
                own(rows, backbone, *given)
                return
            began = time.process_time()
            own(rows, backbone, *given)
            self.seconds += time.process_time() - began

        RowFormat.compute = compute  # type: ignore[method-assign]
        try:
            yield
        finally:
            RowFormat.compute = own  # type: ignore[method-assign]


def _others() -> tuple[float, float]:
    """CPU seconds of all programs but this one, and the clock."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    idle = int(fields[3]) + int(fields[4])
    ticks = sum(map(int, fields[:8])) - idle
    return ticks / os.sysconf("SC_CLK_TCK") - time.process_time(), time.monotonic()


def wait_for_idle(most: float) -> None:
    """Until others take less than a fifth of a processor."""
    ends = time.monotonic() + most
    while time.monotonic() < ends:
        taken, began = _others()
        time.sleep(0.5)
        after, now = _others()
        if (after - taken) / (now - began) < 0.2:
            return


@dataclass
class Round:
    """CPU seconds of ten calls each way, and of reading before them."""

    fills: list[float] = field(default_factory=list)
    trainings: list[float] = field(default_factory=list)
    with_folder: list[float] = field(default_factory=list)
    without: list[float] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)
    plain_reads: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)

    @property
    def fill(self) -> float:
        return statistics.fmean(self.fills)

    @property
    def base(self) -> float:
        return self.fill + sum(self.trainings)


class Comparison:
    """One kind of samples through one model."""

    def __init__(self, model: Path, kind: str, n_samples: int, folder: Path, wait: float) -> None:
        self.model = s2.load(model)
        self.wait = wait
        shape = tuple(int(of) for of in self.model.inputs[0].shape)
        self.kind, place = kind, folder / kind
        place.mkdir()
        self.file = write(kind, place, shape, n_samples)
        self.images: Any = Images() if kind == "images" else None
        time.sleep(SETTLED)
        self.x, self.y = self._read()
        if kind == "arrays":
            self.x = np.asarray(self.x)

    def _read(self, cache: s2.CacheFolder | None = None) -> tuple[Any, Any]:
        table = read_table(
            self.file, images=self.images, layout=layout_of(self.model.inputs),
            checked=None if cache is None else cache.known,
        )  # fmt: skip
        if table.images is not None:
            self.images = table.images.resolved(self.model.inputs)
        return table.x, table.answers

    def call(self, options: dict[str, Any], cache: s2.CacheFolder | None, of: Round) -> None:
        wait_for_idle(self.wait)
        taken, clock = _others()
        began = time.process_time()
        x, y = self.x, self.y
        if self.kind != "arrays":
            cache = None if cache is None else s2.CacheFolder(cache.path)
            x, y = self._read(cache)
        read, passes = time.process_time() - began, Forwards()
        began = time.process_time()
        with passes.counted():
            done = s2.adapt(
                self.model, x, y, keep_outputs=False, cache=cache, images=self.images, **options
            )
        took = time.process_time() - began
        after, now = _others()
        of.busy.append((after - taken) / (now - clock))
        if cache is None:
            of.fills.append(passes.seconds)
            of.trainings.append(took - passes.seconds)
            of.without.append(took)
            of.plain_reads.append(read)
            return
        first = not of.with_folder
        if done.history.n_forwards != (len(x) if first else 0):
            raise SystemExit(f"{done.history.n_forwards} samples passed the model")
        of.with_folder.append(took - passes.seconds)
        of.reads.append(read)

    def round(self, number: int) -> Round:
        of = Round()
        with tempfile.TemporaryDirectory() as folder:
            cache = s2.CacheFolder(Path(folder) / "rows")
            for options in OPTIONS:
                for way in [None, cache][:: -1 if number % 2 else 1]:
                    self.call(options, way, of)
        return of


def _sum_of_medians(calls: list[list[float]]) -> float:
    """Of ten calls in each round: what the middle round of each takes, together."""
    return sum(statistics.median(of) for of in zip(*calls, strict=True))


def told(rounds: list[Round], kind: str, model: str, n_samples: int) -> dict[str, Any]:
    bases = [of.base for of in rounds]
    folders = [of.fill + sum(of.with_folder) for of in rounds]
    reading = ratios(
        [of.fill + sum(of.with_folder) + sum(of.reads) for of in rounds],
        [of.base + statistics.fmean(of.plain_reads) for of in rounds],
    )
    fill = statistics.median(of.fill for of in rounds)
    kept = fill + _sum_of_medians([of.with_folder for of in rounds])
    middle = kept / (fill + _sum_of_medians([of.trainings for of in rounds]))
    each = [[a - b for a, b in zip(of.with_folder, of.trainings, strict=True)] for of in rounds]
    return {
        "model": model, "kind": kind, "samples": n_samples, "rounds": len(rounds),
        "ratio": float(f"{middle:.4g}"), "of_rounds": ratios(folders, bases), "reading": reading,
        "without_folder": ratios([sum(of.without) for of in rounds], bases),
        "fill_s": spread([of.fill for of in rounds]),
        "ten_trainings_s": spread([sum(of.trainings) for of in rounds]),
        "call_more_ms": spread([of for calls in each for of in calls[1:]], 1e3),
        "first_more_ms": spread([calls[0] for calls in each], 1e3),
        "read_ms": spread([of for some in rounds for of in some.reads], 1e3),
        "busy": spread([of for some in rounds for of in some.busy], digits=2),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--kind", nargs="+", default=[*KINDS], choices=KINDS)
    parser.add_argument("--samples", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--wait", type=float, default=20.0, help="seconds at most before a call")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    for kind in asked.kind:
        with tempfile.TemporaryDirectory() as folder:
            of = Comparison(asked.model, kind, asked.samples, Path(folder), asked.wait)
            of.call({"epochs": 1}, None, Round())
            rounds = [of.round(number) for number in range(asked.rounds)]
        line = told(rounds, kind, asked.model.name, asked.samples)
        if asked.json:
            print(json.dumps(line), flush=True)
            continue
        spreads = {name: shown(value) for name, value in line.items() if isinstance(value, dict)}
        print("\n".join(f"{name} {value}" for name, value in (line | spreads).items()), flush=True)


if __name__ == "__main__":
    main()
