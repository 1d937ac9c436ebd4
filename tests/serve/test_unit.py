import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from skip2lora.errors import ParameterError
from skip2lora.serve.unit import notify, unit, watchdog_s

ANALYZE = shutil.which("systemd-analyze")
needs_analyze = pytest.mark.skipif(ANALYZE is None, reason="needs systemd-analyze")


def started(text):
    """The words of ExecStart as systemd takes them apart."""
    line = next(each for each in text.splitlines() if each.startswith("ExecStart="))
    return line.removeprefix("ExecStart=")


def test_the_unit_runs_this_model_with_these_words(tmp_path):
    text = unit("fan", tmp_path / "fan.onnx", ["--store", "state"])
    model = tmp_path / "fan.onnx"
    assert started(text) == f"{sys.executable} -m skip2lora serve {model} --store state"
    assert "StateDirectory=skip2lora-fan\n" in text
    assert "Type=notify\n" in text
    assert "MemoryDenyWriteExecute=yes" in text
    allowed = [line for line in text.splitlines() if line.startswith("SystemCallFilter=")]
    assert allowed[-1] == "SystemCallFilter=setpriority"  # by which what learns yields
    assert "OOMPolicy=continue\n" in text
    assert "MemoryDenyWriteExecute=no" in unit("fan", Path("fan.xml"), [])


@pytest.mark.parametrize(("word", "written"), [
    ("a b", '"a b"'), ("50%", '"50%%"'), ("$HOME", '"$$HOME"'), ('a"b', '"a\\"b"'),
    ("a\\b", '"a\\\\b"'), ("", '""'), ("it's", '"it\'s"'), ("a;b", '"a;b"'), ("é", "é"),
])  # fmt: skip
def test_words_are_quoted(word, written):
    assert started(unit("fan", Path("/m.onnx"), [word])).endswith(f"serve /m.onnx {written}")


@pytest.mark.parametrize("word", ["a\nExecStartPre=b", "a\0", "\x1b"])
def test_words_that_would_end_the_line_are_refused(word):
    with pytest.raises(ParameterError, match="no unit can hold"):
        unit("fan", Path("/m.onnx"), [word])


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a\n", "é", "%n"])
def test_names_that_a_unit_cannot_have_are_refused(name):
    with pytest.raises(ParameterError, match="expected letters"):
        unit(name, Path("/m.onnx"), [])


@needs_analyze
def test_systemd_takes_the_unit(tmp_path):
    file = tmp_path / "skip2lora-fan.service"
    file.write_text(unit("fan", tmp_path / "a model 50%.onnx", ["--mqtt", "mqtt://a:b@c/$d"]))
    checked = subprocess.run([ANALYZE, "verify", file], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


@needs_analyze
def test_the_unit_is_hardened(tmp_path):
    file = tmp_path / "skip2lora-fan.service"
    file.write_text(unit("fan", tmp_path / "m.onnx", []))
    words = [ANALYZE, "security", "--offline=true", "--threshold=25", file]
    checked = subprocess.run(words, capture_output=True, text=True)
    if "unrecognized option" in checked.stderr:
        pytest.skip("systemd-analyze is older than 250")
    assert checked.returncode == 0, checked.stdout[-800:]


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(tmp_path, monkeypatch, abstract):
    name = f"skip2lora-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind("\0" + name if abstract else name)
        channel.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name if abstract else name)
        assert notify("READY=1")
        assert channel.recv(100) == b"READY=1"


def test_nothing_is_told_without_systemd(monkeypatch, tmp_path):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    assert not notify("READY=1")


@pytest.mark.parametrize(("text", "pid", "expected"), [
    ("30000000", None, 15.0), ("0", None, None), ("", None, None), ("x", None, None),
    ("30000000", "1", None),
])  # fmt: skip
def test_signs_of_life_come_twice_as_often_as_asked(monkeypatch, text, pid, expected):
    monkeypatch.setenv("WATCHDOG_USEC", text)
    if pid is None:
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
    else:
        monkeypatch.setenv("WATCHDOG_PID", pid)
    assert watchdog_s() == expected
