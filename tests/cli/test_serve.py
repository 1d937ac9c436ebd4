import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from serve.place import field, model
from skip2lora.serve.security import TOKEN_FILE

pytest.importorskip("uvicorn")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "fan.safetensors"
    model().save(path)
    return path


@contextmanager
def serving(file, *words):
    """The command in a process of its own: what it said at the start, and the process."""
    command = [sys.executable, "-m", "skip2lora", "serve", str(file), "--port", "0", "--json"]
    process = subprocess.Popen(
        [*command, "--store", str(file.parent / "store"), *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        yield json.loads(process.stdout.readline()), process
    finally:
        process.kill()
        process.communicate()


def ask(url, body=None, **headers):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json", **headers})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return json.load(answer)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_and_stops_with_one_line_and_nothing_lost(file, stop):
    x = field(n_samples=3)[0]
    with serving(file) as (facts, process):
        answer = ask(facts["url"] + "/api/predict", {"rows": x.tolist()})
        assert [each["answer"] for each in answer["samples"]] == model().predict(x).tolist()
        ask(facts["url"] + "/api/labels", {"labels": [{"id": 2, "label": "normal"}]})
        process.send_signal(stop)
        output, errors = process.communicate(timeout=30)
        assert (process.returncode, output) == (0, "")
        assert errors.splitlines() == [
            f"skip2lora: fan stopped; {file.parent / 'store'} has all that it learned"
        ]
    with serving(file) as (facts, _):
        labels = ask(facts["url"] + "/api/labels")["labels"]
        assert [(each["sample"], each["answer"]) for each in labels] == [(2, "normal")]
        assert len(ask(facts["url"] + "/api/samples")["samples"]) == 3


def test_a_stop_does_not_wait_for_who_waits_for_events(file):
    with serving(file) as (facts, process):
        waiting = subprocess.Popen(
            [sys.executable, "-c", "import sys, urllib.request as u; u.urlopen(sys.argv[1])",
             facts["url"] + "/api/events?after=1000000&wait=25"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
        waiting.wait(30)
        assert process.returncode == 0
        assert "Traceback" not in errors


def test_limits_are_those_that_were_typed(file):
    words = [
        "--learn",
        900,
        "--unlabelled",
        50,
        "--labelled",
        70,
        "--per-second",
        3,
        "--versions",
        2,
    ]
    with serving(file, *words) as (facts, _):
        limits = ask(facts["url"] + "/api/status")["limits"]
        assert {f"--{name.replace('_', '-')}": limits[name] for name in
                ("learn", "unlabelled", "labelled", "per_second", "versions")
                } == dict(zip(words[::2], words[1::2], strict=True))  # fmt: skip
        assert limits["batch"] == 10


def test_another_address_needs_a_token_which_is_told_once(file):
    with serving(file, "--host", "0.0.0.0") as (facts, _):  # noqa: S104
        url = facts["url"].replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        assert len(facts["token"]) >= 43
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(url + "/api/status")
        assert refused.value.code == 401
        refused.value.close()  # its socket
        knows = {"authorization": f"Bearer {facts['token']}"}
        assert ask(url + "/api/status", **knows)["name"] == "fan"
        assert ask(url + "/healthz") == {"live": True}
    kept = file.parent / "store" / TOKEN_FILE
    before = kept.read_bytes()
    with serving(file, "--host", "0.0.0.0") as (facts, _):  # noqa: S104
        assert facts["token"] is None
    assert kept.read_bytes() == before
    with serving(file, "--new-token") as (facts, _):
        assert facts["token"]
    assert kept.read_bytes() != before


def refused(*words):
    process = subprocess.run(
        [sys.executable, "-m", "skip2lora", "serve", *map(str, words)], text=True,
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert process.returncode == 2
    assert process.stdout == ""
    assert len(process.stderr.splitlines()) == 1
    return process.stderr


def test_a_store_is_of_one_process(file):
    store = file.parent / "store"
    with serving(file):
        assert "another process" in refused(file, "--store", store, "--port", 0)


@pytest.mark.parametrize(("words", "says"), [
    (["--mqtt", "host"], "expected mqtt://"), (["--host", "203.0.113.1"], "cannot listen at"),
    (["--watch", "nowhere"], "no folder"), (["--port", "-1"], "port"),
    (["--thread", "2"], "--threads"), (["--learn", "199"], "learn is 199"),
    (["--per-second", "0"], "per_second is 0"),
])  # fmt: skip
def test_what_cannot_be_is_one_line(file, words, says):
    store = file.parent / "store"
    assert says in refused(file, "--store", store, *words)


def test_a_missing_model_is_one_line_and_makes_no_store(tmp_path):
    assert "gone.safetensors" in refused(tmp_path / "gone.safetensors", "--store", tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_the_unit_has_the_words_of_the_command(file):
    command = [sys.executable, "-m", "skip2lora", "serve", str(file), "--store", "there/state"]
    command[4:5] = ["fan.safetensors"]
    words = ["--port", "8090", "--approve", "--lab-set", "lab.npz", "--print-unit"]
    process = subprocess.run([*command, *words], capture_output=True, text=True, cwd=file.parent)
    line = next(of for of in process.stdout.splitlines() if of.startswith("ExecStart="))
    lab = file.parent / "lab.npz"
    assert line.endswith(f"serve {file} --store state --port 8090 --lab-set {lab} --approve")
    assert process.returncode == 0
    assert not (file.parent / "state").exists()


def test_a_unit_moves_no_files(file):
    words = ["--store", "state", "--watch", file.parent, "--print-unit"]
    assert "--watch is" in refused(file, *words)


def test_files_of_a_folder_are_predicted(file, tmp_path):
    (tmp_path / "in").mkdir()
    np.savetxt(tmp_path / "in" / "a.csv", field(n_samples=2)[0], delimiter=",",
               header=",".join(f"f{at}" for at in range(12)), comments="")  # fmt: skip
    with serving(file, "--watch", tmp_path / "in") as (facts, _):
        for _ in range(100):
            samples = ask(facts["url"] + "/api/samples")["samples"]
            if samples:
                break
            time.sleep(0.1)
        assert [each["source"] for each in samples] == ["folder"] * 2


def children(process):
    """Those of a process, without such as ended."""
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(each) for each in text.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux alone")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_learns_in_a_process_that_goes_with_it(file, stop):
    x, names = field(n_samples=60)
    with serving(file) as (facts, process):
        (waits,) = children(process.pid)
        assert os.getpriority(os.PRIO_PROCESS, waits) > os.getpriority(os.PRIO_PROCESS, process.pid)
        samples = ask(facts["url"] + "/api/predict", {"rows": x.tolist()})["samples"]
        labels = [{"id": of["id"], "label": name} for of, name in zip(samples, names, strict=True)]
        ask(facts["url"] + "/api/labels", {"labels": labels})
        ask(facts["url"] + "/api/learn", {})
        assert ask(facts["url"] + "/api/status")["n_adopted"] == 1
        assert children(process.pid) == [waits]
        process.send_signal(stop)
        process.communicate(timeout=30)
        end = time.monotonic() + 30
        while Path(f"/proc/{waits}").exists():
            assert time.monotonic() < end
            time.sleep(0.01)
