"""Read damaged files of every format: each is read, or refused by one line, and nothing else.

``make fuzz`` runs this for a minute; FUZZ="--seconds 600 --seed 3" for more and others. The files
are read in a process of its own, as a runtime may end it, use up the memory or never come back;
those are failures too. One that failed is read again, with its traceback, by ``--case``.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

TESTS = Path(__file__).parents[1]
#: Bytes of memory beyond what reading whole files takes, of a file, and seconds for one.
SPACE, MOST_BYTES, MOST_SECONDS = 3 << 30, 200_000_000, 60
#: Numbers of cases of one seed.
STRIDE = 10_000_000
_MOST_FAILURES = 20


@dataclass
class Report:
    """Cases read, refused and failed, by format; failures of one cause are kept once."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, case: str, outcome: str, detail: str = "") -> None:
        name = case.partition(":")[0]
        self.outcomes[name, outcome] += 1
        if outcome == "failed":
            self.failures.setdefault(
                f"{name}: {detail.strip().splitlines()[-1] if detail.strip() else outcome}",
                f"{case}: {detail}\nagain: PYTHONPATH=tests python -m hostile.fuzz --case {case}",
            )


def _files(name: str, seeds: Sequence[dict[str, bytes]], damaged: str, number: int) -> Any:
    """The files of one case."""
    from hostile.mutations import mutate

    random = np.random.default_rng([number, zlib.crc32(name.encode())])
    which = int(random.integers(len(seeds)))
    files, others = seeds[which], seeds[1 - which]
    names = sorted(files) if not damaged else [damaged]
    target = names[random.integers(len(names))]
    return files | {target: mutate(files[target], others.get(target, b""), random)}


def _read(of: Any, folder: Path, look: bool) -> None:
    from hostile.formats import read

    read(of, folder / of.file if of.file else folder, look)


def _try(of: Any, folder: Path, look: bool) -> str:
    """Read one case; "read" or "refused", else what is wrong is raised."""
    import skip2lora as s2

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("default", UserWarning)  # those of the package
        try:
            _read(of, folder, look)
        except s2.Skip2LoraError as error:
            message = str(error)
            if "\n" in message or not message or len(message) > 3000:
                raise RuntimeError(f"refused by no line: {message[:500]!r}") from error
            return "refused"
    return "read"


def _put(folder: Path, files: dict[str, bytes]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _limit_space() -> None:
    words = Path("/proc/self/statm").read_text(encoding="ascii").split()
    size = int(words[0]) * resource.getpagesize() + SPACE
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def work(names: Sequence[str], first: int, count: int, seconds: float) -> None:
    """In the child: cases ``first``, ... of each format; a line before each, and one after."""
    from hostile.formats import FORMATS

    said = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what runtimes print
    end = time.monotonic() + seconds
    seeds = {name: FORMATS[name].seeds() for name in names}
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room, "case")
        for name in names:  # whole files are read
            for files in seeds[name]:
                for look in (False, True):
                    _put(folder, files)
                    _read(FORMATS[name], folder, look)
        _limit_space()
        for at in range(first, first + count * len(names)):
            if time.monotonic() > end:
                return
            name, number = names[at % len(names)], at // len(names)
            print(json.dumps({"case": f"{name}:{number}", "at": at}), file=said, flush=True)
            of = FORMATS[name]
            _put(folder, _files(name, seeds[name], of.damaged, number))
            faulthandler.dump_traceback_later(MOST_SECONDS, exit=True)
            try:
                answer = {"outcome": _try(of, folder, number % 4 == 0)}
            except BaseException:  # noqa: BLE001 - whatever it is, it is reported
                answer = {"outcome": "failed", "detail": traceback.format_exc(limit=-4)[-3000:]}
            faulthandler.cancel_dump_traceback_later()
            print(json.dumps(answer), file=said, flush=True)


def _answers(child: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert child.stdout is not None
    for line in child.stdout:
        yield json.loads(line)


def fuzz(names: Sequence[str], seed: int, count: int, seconds: float) -> Report:
    """Up to ``count`` cases of each format; a child that ends is followed by another."""
    report, first = Report(), seed * STRIDE * len(names)
    last, end = first + count * len(names), time.monotonic() + seconds
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "SKIP2LORA_MAX_BYTES": str(MOST_BYTES), "PYTHONPATH": str(TESTS),
    }  # fmt: skip
    while first < last and time.monotonic() < end and len(report.failures) < _MOST_FAILURES:
        left = -(-(last - first) // len(names))
        words = ["--work", ",".join(names), str(first), str(left), str(end - time.monotonic())]
        with (
            tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
            subprocess.Popen(
                [sys.executable, "-X", "faulthandler", "-m", "hostile.fuzz", *words],
                stdout=subprocess.PIPE, stderr=errors, text=True, env=environment,
            ) as child,
        ):  # fmt: skip
            case = None
            for answer in _answers(child):
                if "case" in answer:
                    case, first = answer["case"], answer["at"] + 1
                elif case is not None:
                    report.add(case, **answer)
                    case = None
            code = child.wait()
            errors.seek(0)
            tail = errors.read()[-2500:]
        if case is not None:
            report.add(case, "failed", f"{tail}\nthe process ended with {code}")
        elif code:
            raise RuntimeError(f"the fuzzer itself failed with {code}: {tail}")
        else:
            break
    return report


def again(case: str) -> None:
    """Read one case here; its files stay."""
    from hostile.formats import FORMATS

    name, _, number = case.partition(":")
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-{number}-"))
    of = FORMATS[name]
    _put(folder, _files(name, of.seeds(), of.damaged, int(number)))
    print(f"its files are in {folder}", flush=True)
    print(_try(of, folder, int(number) % 4 == 0))


def main() -> int:
    from hostile.formats import FORMATS

    there = [name for name, of in FORMATS.items() if of.is_there]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=STRIDE, help="cases of a format, at most")
    parser.add_argument("--formats", default=",".join(there), help="some of the default")
    parser.add_argument("--case", help="one that failed, as FORMAT:NUMBER")
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work is not None:
        names, first, count, seconds = asked.work
        work(names.split(","), int(first), int(count), float(seconds))
        return 0
    if asked.case is not None:
        again(asked.case)
        return 0
    names = asked.formats.split(",")
    report = fuzz(names, asked.seed, asked.count, asked.seconds)
    for name in names:
        read, refused, failed = (report.outcomes[name, k] for k in ("read", "refused", "failed"))
        print(f"{name:14} {read:7} read {refused:7} refused {failed:5} failed")
    print(*report.failures.values(), sep="\n\n")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
