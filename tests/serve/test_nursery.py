"""A process a call: what it answers, what it shares, and what becomes of it when it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from skip2lora.serve import nursery
from skip2lora.serve.nursery import EndedError, Nursery

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux alone")


@contextmanager
def opened(work: Callable[[bytes], bytes], most_s: float = 60.0) -> Iterator[Nursery]:
    of = Nursery(work, most_s)
    try:
        yield of
    finally:
        of.close()


def number() -> bytes:
    return str(os.getpid()).encode()


def lives(process: int) -> bool:
    """Whether it runs, or waits to; one that nobody has looked after is gone, too."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def children(process: int) -> list[int]:
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(each) for each in text.split()]


def test_memory_stays_shared_while_cycles_are_looked_for() -> None:
    """In a program of its own, where nothing but this changes memory."""
    script = (
        "import gc, sys\n"
        "from skip2lora.serve.nursery import Nursery\n"
        "from skip2lora.system import own_bytes\n"
        "many = [[] for _ in range(600_000)]\n"
        "of = Nursery(lambda asked: asked, 60)\n"
        "assert of.call(b'') == b''\n"
        "gc.collect()\n"
        "print(own_bytes(of.process), gc.get_freeze_count() > len(many))\n"
        "of.close()\n"
        "print(gc.get_freeze_count())\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    n_bytes, is_frozen, n_after = ran.stdout.split()
    assert 0 < int(n_bytes) < 600_000 * sys.getsizeof([]) / 2
    assert (is_frozen, n_after, ran.stderr) == ("True", "0", "")


def test_each_call_has_a_process_that_knows_what_was_there() -> None:
    there = {"value": b"before"}

    def work(asked: bytes) -> bytes:
        there["value"] += asked
        return there["value"] + b" " + number()

    with opened(work) as of:
        there["value"] = b"after"
        first, second = (of.call(each).split() for each in (b"-1", b"-2"))
    assert (first[0], second[0]) == (b"before-1", b"before-2")
    assert len({int(first[1]), int(second[1]), os.getpid()}) == 3
    assert there == {"value": b"after"}
    assert not lives(int(first[1]))


@pytest.mark.parametrize("size", [0, 1, 3 << 20])
def test_questions_and_answers_have_any_size(size: int) -> None:
    content = os.urandom(size)
    with opened(lambda asked: asked[::-1]) as of:
        assert of.call(content) == content[::-1]


def test_it_yields_to_others_and_is_ended_before_them_where_memory_runs_out() -> None:
    def work(_: bytes) -> bytes:
        rather = Path("/proc/self/oom_score_adj").read_text().strip()
        return f"{os.nice(0)} {rather}".encode()

    before = os.nice(0)
    with opened(work) as of:
        assert of.call(b"").split() == [str(min(19, before + 19)).encode(), b"500"]
    assert os.nice(0) == before


def test_it_has_no_file_of_the_one_that_made_it(tmp_path: Path) -> None:
    def work(_: bytes) -> bytes:
        targets = [os.path.realpath(each) for each in Path("/proc/self/fd").iterdir()]
        return "\n".join(targets).encode()

    with (tmp_path / "ours").open("w"), opened(work) as of:
        targets = of.call(b"").decode().splitlines()
    assert not [each for each in targets if "ours" in each or "socket" in each]


def test_libraries_that_look_after_their_files_at_a_fork_find_them(tmp_path: Path) -> None:
    csv = pytest.importorskip("pyarrow.csv", reason="needs PyArrow")
    (tmp_path / "a.csv").write_text("a\n1\n2\n")
    csv.read_csv(tmp_path / "a.csv")  # opens a pipe, which it closes where the process forks
    with opened(lambda asked: str(csv.read_csv(asked.decode()).num_rows).encode()) as of:
        assert [of.call(str(tmp_path / "a.csv").encode()) for _ in range(2)] == [b"2", b"2"]


def test_signals_that_stop_the_one_that_made_it_stop_no_call() -> None:
    def work(_: bytes) -> bytes:
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), each)
            os.kill(os.getppid(), each)
        return b"there"

    with opened(work) as of:
        assert of.call(b"") == b"there"
        assert of.call(b"") == b"there"


@pytest.mark.parametrize(
    ("end", "how"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "ended with signal 9"),
        (lambda: os._exit(3), "ended with code 3"),
        (lambda: 1 // 0, "ended with code 1"),
    ],
)
def test_a_call_that_ends_is_told_and_the_next_has_another(
    end: Callable[[], object], how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def work(asked: bytes) -> bytes:
        if asked == b"end":
            end()
        return b"there"

    with opened(work) as of:
        with pytest.raises(EndedError, match=f"the process that learned {how}, expected an answer"):
            of.call(b"end")
        assert of.call(b"") == b"there"
    assert ("ZeroDivisionError" in capfd.readouterr().err) == (how[-1] == "1")


def test_a_call_that_hangs_is_ended() -> None:
    def work(asked: bytes) -> bytes:
        if asked:
            time.sleep(600)
        return b"there"

    with opened(work, 0.3) as of:
        with pytest.raises(EndedError, match="took more than 0 s"):
            of.call(b"hang")
        assert of.process is not None
        assert children(of.process) == []
    with opened(work) as of:
        assert of.call(b"") == b"there"


def test_without_the_one_that_waits_no_call_can_be_made() -> None:
    with opened(lambda asked: asked) as of:
        assert of.process is not None
        os.kill(of.process, signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(EndedError, match="the process that waits to learn is gone"):
                of.call(b"")
        assert of.process is None


def test_one_that_is_stopped_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nursery, "_LATER_S", 0.2)
    with opened(lambda asked: asked, 0.1) as of:
        process = of.process
        assert process is not None
        os.kill(process, signal.SIGSTOP)
        with pytest.raises(EndedError, match="is gone"):
            of.call(b"")
        assert not lives(process)


def test_closing_ends_a_call_that_runs() -> None:
    of = Nursery(lambda _: time.sleep(600) or b"", 600)  # type: ignore[func-returns-value]
    process, raised = of.process, []

    def call() -> None:
        with pytest.raises(EndedError):
            of.call(b"")
        raised.append(True)

    thread = threading.Thread(target=call)
    thread.start()
    assert process is not None
    until(lambda: bool(children(process)))
    (child,) = children(process)
    of.close()
    thread.join(60)
    assert raised == [True]
    until(lambda: not lives(child))
    assert not lives(process)
    of.close()


@pytest.mark.parametrize("busy", [False, True])
def test_all_end_with_the_process_that_made_them_however_it_ends(busy: bool) -> None:
    reads, writes = os.pipe()
    maker = os.fork()
    if maker == 0:
        try:
            of = Nursery(lambda _: time.sleep(600) or b"", 600)  # type: ignore[func-returns-value]
            os.write(writes, f"{of.process}\n".encode())
            if busy:
                of.call(b"")
            time.sleep(600)
        finally:
            os._exit(1)
    waits = int(os.read(reads, 100))
    if busy:
        until(lambda: bool(children(waits)))
    every = [waits, *children(waits)]
    assert len(every) == 1 + busy
    os.kill(maker, signal.SIGKILL)
    os.waitpid(maker, 0)
    until(lambda: not any(map(lives, every)))
    os.close(reads)
    os.close(writes)


def test_a_call_ends_with_the_one_that_waits_for_it() -> None:
    of = Nursery(lambda _: time.sleep(600) or b"", 600)  # type: ignore[func-returns-value]
    process = of.process
    assert process is not None

    def call() -> None:
        with pytest.raises(EndedError):
            of.call(b"")

    thread = threading.Thread(target=call)
    thread.start()
    until(lambda: bool(children(process)))
    (child,) = children(process)
    os.kill(process, signal.SIGKILL)
    until(lambda: not lives(child))
    thread.join(60)
    of.close()


def test_a_call_whose_waiter_ended_before_it_began_does_nothing() -> None:
    reads, writes = os.pipe()
    gone = os.fork()
    if gone == 0:
        os._exit(0)
    os.waitpid(gone, 0)
    child = os.fork()
    if child == 0:
        nursery._end_with(lambda: nursery._answer(lambda _: b"done", b"", writes, gone))
    os.close(writes)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert os.read(reads, 4) == b""
    os.close(reads)


def test_what_waits_to_be_printed_is_printed_once() -> None:
    script = (
        "from skip2lora.serve.nursery import Nursery\n"
        "print('once')\n"
        "of = Nursery(lambda asked: print('never') or asked, 60)\n"
        "of.call(b'')\n"
        "of.close()\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("once\n", "")
