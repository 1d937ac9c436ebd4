"""On a terminal: progress bar, narrow window, Ctrl-C, a reader that goes away."""

from __future__ import annotations

import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl

import pytest

import skip2lora as s2
from desk import digests

COMMAND = [sys.executable, "-m", "skip2lora"]
LONG = ["adapt", "model.safetensors", "field.npz", "--epochs", "2000000", "-o", "new"]


def read_until(descriptor, text, seconds=30):
    """What the terminal shows until ``text`` appears or its programs are gone."""
    shown = b""
    end = time.monotonic() + seconds
    while text not in shown and time.monotonic() < end:
        if select.select([descriptor], [], [], 0.2)[0]:
            try:
                part = os.read(descriptor, 65536)
            except OSError:  # Linux says so when the last program closed the terminal
                break
            if not part:
                break
            shown += part
    return shown


@pytest.fixture
def terminal():
    """Start a command on a terminal of 40 columns; yields (start, its screen)."""
    try:
        master, slave = pty.openpty()
    except OSError as error:
        pytest.skip(f"this system has no pseudo-terminals: {error}")
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    started = []

    def start(words, folder):
        process = subprocess.Popen(
            [*COMMAND, *words], cwd=folder, stdin=slave, stdout=slave, stderr=slave,
            env=os.environ | {"TERM": "xterm"}, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start, master
    for process in started:
        process.kill()
        process.wait()
    os.close(master)
    os.close(slave)


def test_progress_bar_and_ctrl_c(desk, terminal):
    start, screen = terminal
    before = digests(desk)
    process = start(LONG, desk)
    assert b"epoch" in read_until(screen, b"epoch")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert b"nothing was written" in read_until(screen, b"written")
    assert digests(desk) == before
    assert not list(desk.glob(".*"))


@pytest.fixture(autouse=True)
def heard_hangups():
    """SIGHUP as a terminal has it, also where these tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


@pytest.mark.parametrize("number", NAMES)
def test_a_signal_without_a_terminal(desk, number):
    before = digests(desk)
    process = subprocess.Popen(
        [*COMMAND, *LONG], cwd=desk, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 30
        while not _training(process.pid) and time.monotonic() < deadline:
            select.select([], [], [], 0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 128 + number
    assert out == ""
    assert err == f"skip2lora: stopped by {NAMES[number]}, nothing was written\n"
    assert digests(desk) == before
    assert not list(desk.glob(".*"))


IMPORTING = """
import os, sys
class Finder:
    def find_spec(self, name, *_):
        if name == {name!r}:
            os.kill(os.getpid(), {number})
            for _ in range(1000):  # the handler runs between these
                pass
sys.meta_path.insert(0, Finder())
sys.argv = ["skip2lora", "inspect", "model.safetensors"]
from skip2lora.__main__ import main
main()
"""


@pytest.mark.parametrize("name", ["numpy", "click", "skip2lora.cli.inspect", "skip2lora.tensors"])
@pytest.mark.parametrize("number", NAMES)
def test_a_signal_while_modules_are_imported(desk, name, number):
    done = subprocess.run(
        [sys.executable, "-c", IMPORTING.format(name=name, number=int(number))], cwd=desk,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 128 + number
    assert done.stderr == f"skip2lora: stopped by {NAMES[number]}, nothing was written\n"
    assert done.stdout == ""


def test_what_was_written_is_said(desk):
    code = """
import signal, sys
from skip2lora.cli import common, run
def show(*_, **__):
    signal.raise_signal(signal.SIGTERM)
common.show = show
sys.exit(run(["pretrain", "lab.npz", "--epochs", "1", "-o", "new.safetensors"]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=desk, capture_output=True, text=True)
    assert done.returncode == 143
    assert done.stderr == "skip2lora: stopped by SIGTERM, new.safetensors was written\n"


def test_a_signal_that_a_library_swallows_still_counts(desk, type_in, monkeypatch):
    from skip2lora.cli import inspect

    def swallow(*_):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise s2.MissingExtraError("something is not installed") from None

    monkeypatch.setattr(inspect.command, "invoke", swallow)
    answer = type_in("inspect", "model.safetensors")
    assert answer.code == 130
    assert answer.err.endswith("skip2lora: stopped by Ctrl-C, nothing was written\n")


def test_what_is_ignored_stays_ignored(desk):
    """As under nohup."""
    code = """
import signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from skip2lora.cli import common, run
true = common.show
def show(*words, **options):
    signal.raise_signal(signal.SIGHUP)
    true(*words, **options)
common.show = show
sys.exit(run(["inspect", "model.safetensors"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=desk, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


def test_handlers_are_as_they_were(desk, type_in):
    before = [signal.getsignal(number) for number in NAMES]
    assert type_in("inspect", "model.safetensors").code == 0
    assert [signal.getsignal(number) for number in NAMES] == before


def _training(pid):
    """The extension is loaded and the process has used some time since."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123
        ticks = sum(int(field) for field in stat.read().rpartition(")")[2].split()[11:13])
        return "skip2lora/_core" in maps.read() and ticks > 100


def test_no_control_characters_where_there_is_no_terminal(desk, type_in):
    answer = type_in("adapt", "model.safetensors", "field.npz", "--epochs", 3, "-o", "new")
    assert answer.code == 0
    assert answer.err == ""
    assert "\x1b" not in answer.out


@pytest.mark.parametrize(
    "words",
    [
        "inspect adapter", "--help", "adapt --help", "inspect model.safetensors --json",
        "predict model.safetensors field.npz -o -", "adapt model.safetensors none.npz -o new 2>&1",
    ],
)  # fmt: skip
def test_a_reader_that_goes_away(desk, words):
    done = subprocess.run(
        f"{sys.executable} -m skip2lora {words} | true; echo ${{PIPESTATUS[0]}}", shell=True,
        executable="/bin/bash", cwd=desk, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert int(done.stdout) == (2 if "2>&1" in words else 141)


def test_predictions_on_standard_output(desk, type_in):
    model = ("predict", "model.safetensors", "field.npz")
    for place in ("-", "/dev/stdout"):
        done = subprocess.run(
            [*COMMAND, *model, "-o", place], cwd=desk, capture_output=True, text=True, check=True
        )
        assert type_in(*model, "-o", "p.csv", "--force").code == 0
        assert done.stdout == (desk / "p.csv").read_text()
        assert "samples" in done.stderr
        answer = type_in(*model, "-o", place, "--json")
        assert answer.code == 2
        assert "leave --json out" in answer.err
    assert type_in(*model, "-o", "-").out == done.stdout
    for words in (("adapt", *model[1:]), ("dataset", "simulated")):  # folders
        answer = type_in(*words, "-o", "-", "--force")
        assert answer.code == 2
        assert "expected a folder" in answer.err
    assert not (desk / "-").exists()


def test_a_full_disk_under_standard_output(desk):
    code = """
import resource, sys
from skip2lora.cli import run
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
sys.exit(run(["inspect", "model.safetensors"]))
"""
    with (desk / "out").open("w") as out:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=desk, stdout=out, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONUNBUFFERED": ""},  # which drops what a short write left
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("skip2lora: cannot write to standard output: File too large")
    assert done.stderr.count("\n") == 1
