"""A day of a service, as fast as it goes: whether its memory and its store grow, beside its plan.

    python bench/service_day.py [--data ../shared/data] [--hours 24] [--json]

A real ``skip2lora serve`` gets 3,600 samples a simulated hour over HTTP, one minute a request, of
the quiet room and the noisy one in turn. Each hour 40 samples are asked for and labelled, one in
twenty wrongly; the service learns by itself. Every third hour a version is adopted by hand, the
next one rejected, and what is normal is learned anew; in between all labels of an hour are wrong
once, so that it goes back by itself. Two listeners wait for events and a page is read each minute.
Limits are small, so that all of them are reached within a few hours. Memory is that of the service
as the system sees it, all (RSS), and what the processes that learn hold beside it;
"anonymous" is what no file holds, of the service alone. The peak is the most of ten looks a second.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from harness import environment, pretrained, task
from serving import call, server

LIMITS = {"unlabelled": 1000, "labelled": 400, "versions": 5, "per_second": 1_000_000}
MINUTES, SAMPLES, LABELS = 60, 60, 40
WRONG_HOURS = (10, 20)
PAGE = ("/", "/page/page.js", "/api/status", "/metrics", "/api/versions", "/api/samples?limit=50")


def get(url: str, path: str) -> bytes:
    """What a GET gives."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=600)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def learners(pid: int) -> list[int]:
    """The process that waits to learn, and the one that does."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        return [
            each for of in children.read_text().split() for each in (int(of), *learners(int(of)))
        ]
    except OSError:  # it has ended
        return []


def memory(pid: int) -> dict[str, float]:
    """MB of a service now: all, of which anonymous, and of the processes that learn.

    What a fork shares is divided among those that have it ("proportional").
    """
    texts = []
    for each in (pid, *learners(pid)):
        with suppress(OSError):  # it has ended
            texts.append(Path(f"/proc/{each}/smaps_rollup").read_text())
    rss, anonymous, own = (_mb(texts[0], key) for key in ("Rss:", "Anonymous:", "Pss_Anon:"))
    others = sum(_mb(text, "Pss_Anon:") + _mb(text, "Private_Clean:") for text in texts[1:])
    total = rss - anonymous + own + others
    return {"memory": total, "anonymous": anonymous, "learners": total - rss}


def _mb(text: str, key: str) -> float:
    """A number of a file of kB."""
    return 1024 * int(text.partition(key)[2].split()[0]) / 1e6


@contextmanager
def watched(pid: int) -> Iterator[list[float]]:
    """The most memory so far, in MB."""
    most, ended = [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            most[0] = max(most[0], memory(pid)["memory"])

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()


def stored(folder: Path) -> float:
    """MB of all files of the store."""
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file()) / 1e6


@contextmanager
def listeners(url: str, count: int) -> Iterator[list[int]]:
    """Clients that wait for events, as pages do; how many came to each."""
    ended, counts = threading.Event(), [0] * count

    def listen(which: int) -> None:
        after = 0
        while not ended.is_set():
            events = json.loads(get(url, f"/api/events?after={after}&wait=1"))["events"]
            counts[which] += len(events)
            after = events[-1]["id"] if events else after

    threads = [threading.Thread(target=listen, args=(which,)) for which in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        ended.set()
        for thread in threads:
            thread.join()


class Day:
    """One service, and the two rooms that its samples come from."""

    def __init__(self, url: str, split: Any, names: list[str]) -> None:
        self.url, self.names = url, names
        self.rooms = [split.pretrain, split.finetune]
        self.random = np.random.default_rng(0)
        self.truth: dict[int, str] = {}

    def predict(self, room: Any) -> None:
        """A minute of samples, a little different each time."""
        places = self.random.integers(0, len(room.y), SAMPLES)
        x = room.x[places] * self.random.uniform(0.97, 1.03, (SAMPLES, 1)).astype(np.float32)
        answers = call(self.url, "/api/predict", {"rows": x.round(5).tolist()})["samples"]
        for of, place in zip(answers, places, strict=True):
            self.truth[of["id"]] = self.names[room.y[place]]

    def label(self, wrong: float) -> None:
        """Answer what is asked."""
        given = 0
        while given < LABELS:
            asked = json.loads(get(self.url, "/api/ask"))["samples"]
            ids = [of["id"] if isinstance(of, dict) else of for of in asked]
            if not ids:
                return
            labels = []
            for number in ids:
                name = self.truth[number]
                if self.random.random() < wrong:
                    name = self.names[(self.names.index(name) + 1) % len(self.names)]
                labels.append({"id": number, "label": name})
            call(self.url, "/api/labels", {"labels": labels})
            given += len(labels)

    def by_hand(self) -> None:
        """Adopt the newest version, and turn it down; learn anew what is normal."""
        versions = json.loads(get(self.url, "/api/versions"))["versions"]
        newest = versions[-1]["number"]
        if newest:
            call(self.url, f"/api/versions/{newest}/adopt", {})
            call(self.url, f"/api/versions/{newest}/reject", {})
        call(self.url, "/api/drift/reference", {})

    def hour(self, number: int) -> None:
        """All that happens in one."""
        self.truth = {of: self.truth[of] for of in sorted(self.truth)[-4 * LIMITS["unlabelled"] :]}
        room = self.rooms[number // 2 % 2]
        for _ in range(MINUTES):
            self.predict(room)
            for path in PAGE:
                get(self.url, path)
        self.label(1.0 if number in WRONG_HOURS else 0.05)
        call(self.url, "/api/learn", {})
        if number % 3 == 2:
            self.by_hand()


def measure(data: Path | None, hours: int) -> dict[str, Any]:
    """A row an hour."""
    about, split = task(data, 0)
    names = list(split.pretrain.class_names)
    with tempfile.TemporaryDirectory() as folder:
        model, store = Path(folder) / "fan.safetensors", Path(folder) / "store"
        pretrained(split, 0).named(names).save(model)
        limits = [word for name, value in LIMITS.items()
                  for word in (f"--{name.replace('_', '-')}", str(value))]  # fmt: skip
        program = [sys.executable, "-m", "skip2lora"]
        planned = json.loads(subprocess.run(
            [*program, "plan", str(model), "--serve", *limits, "--json"],
            check=True, capture_output=True, text=True,
        ).stdout)  # fmt: skip
        serve = [*program, "serve", str(model), "--store", str(store), "--port", "0", "--json"]
        rows = []
        with (
            server([*serve, *limits]) as (pid, url),
            listeners(url, 2) as counts,
            watched(pid) as most,
        ):
            day = Day(url, split, names)
            for number in range(hours + 1):  # the first is the start
                if number:
                    day.hour(number - 1)
                status = json.loads(get(url, "/api/status"))
                rows.append(
                    {"hour": number, **memory(pid), "peak": most[0], "store": stored(store), **{
                        name: status[name] for name in (
                            "n_predicted", "n_samples", "n_labels", "n_alarms", "n_adopted",
                            "n_refused", "n_rolled_back")}}
                )  # fmt: skip
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
            heard = list(counts)
    return {
        "environment": environment(), "data": about, "limits": LIMITS, "rows": rows,
        "events": heard, "planned": {"memory": planned["memory"], "disk": planned["disk"]},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    result = measure(asked.data, asked.hours)
    if asked.json:
        print(json.dumps(result, indent=1))
        return
    print("  ".join(result["rows"][0]))
    for row in result["rows"]:
        print("  ".join(f"{value:.1f}" if isinstance(value, float) else str(value)
                        for value in row.values()))  # fmt: skip
    planned = {
        name: f"{value / 1e6:.1f}"
        for of in result["planned"].values()
        for name, value in of.items()
        if name in ("idle_bytes", "peak_bytes", "total_bytes")
    }
    print(f"planned, MB: {planned}; events heard {result['events']}")


if __name__ == "__main__":
    main()
