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


def test_ctrl_c_without_a_terminal(desk):
    before = digests(desk)
    process = subprocess.Popen(
        [*COMMAND, *LONG], cwd=desk, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 30
        while not _training(process.pid) and time.monotonic() < deadline:
            select.select([], [], [], 0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert out == ""
    assert err.strip().splitlines()[-1] == "skip2lora: stopped by Ctrl-C, nothing was written"
    assert digests(desk) == before


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


def test_a_reader_that_goes_away(desk):
    done = subprocess.run(
        f"{sys.executable} -m skip2lora inspect adapter | true", shell=True, cwd=desk,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr == ""
