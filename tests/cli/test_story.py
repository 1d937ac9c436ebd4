import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import pytest

import skip2lora as s2
from desk import refused
from skip2lora.cli import run
from skip2lora.serve import story

pytest.importorskip("uvicorn")


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A story of few samples whose store stays: its folder, and what it says in JSON."""
    import contextlib
    import io

    folder = tmp_path_factory.mktemp("story")
    words = ["demo", "--field", "--seconds", "0", "--store", "fan", "--json"]
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        for name, count in (("N_TRAIN", 240), ("N_QUIET", 340), ("N_NOISY", 120)):
            patch.setattr(story, name, count)
        with contextlib.redirect_stdout(io.StringIO()) as out:
            assert run(words) == 0
    return folder, json.loads(out.getvalue())


def test_accuracy_falls_in_the_noise_which_is_noticed_and_comes_back(ended):
    _, facts = ended
    assert facts["quiet_accuracy"] > 0.95
    assert facts["false_alarms"] == 0
    assert 1 <= facts["alarm_after"] <= 60
    assert facts["accuracy_before"] < 0.75
    assert facts["accuracy_after"] > facts["accuracy_before"] + 0.15


def test_rounds_say_what_was_in_use_after_each(ended):
    _, facts = ended
    assert [of["n_labels"] for of in facts["rounds"]] == [20, 30, 40, 50, 60]
    assert [of["n_wrong"] for of in facts["rounds"]] == [1, 1, 2, 2, 3]
    assert [of["n_wrong"] for of in facts["bad_rounds"]] == [13, 23]
    before = facts["accuracy_before"]
    for of in facts["rounds"]:
        assert of["adopted"] or of["accuracy"] == before
        before = of["accuracy"]
    assert any(of["adopted"] for of in facts["rounds"])
    assert not any(of["adopted"] for of in facts["bad_rounds"])


def test_a_service_goes_on_with_the_store(ended):
    folder, facts = ended
    with s2.Service(s2.load(folder / "fan.safetensors"), folder / "fan", learning=False) as served:
        versions = {of["number"]: of["state"] for of in served.versions()}
        learned = [of for of in (*facts["rounds"], *facts["bad_rounds"]) if of["version"]]
        assert len(learned) >= 6
        for of in learned:
            assert versions[of["version"]] == ("adopted" if of["adopted"] else "refused")
        waited = [of for of in facts["rounds"] if not of["version"]]
        assert all(of["reason"].startswith("waiting for labels of: ") for of in waited)
        labels = served.labels()
        assert len(labels) == 80
        undone = [of for of in labels if of["undone"] is not None]
        assert {of["source"] for of in undone} == {"careless"}
        assert (len(undone), served.status()["n_labels"]) == (20, 60)
        adopted = [of["version"] for of in facts["rounds"] if of["adopted"]]
        assert served.version == adopted[-1]


def test_it_writes_over_nothing(ended, type_in, tmp_path):
    folder, _ = ended
    refused(type_in("demo", "--field", "--store", folder / "fan"), "is there already")
    (tmp_path / "new.safetensors").touch()
    refused(type_in("demo", "--field", "--store", tmp_path / "new"), "new.safetensors is there")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["new.safetensors"]


@pytest.mark.parametrize("seconds", ["-1", "nan", "4000"])
def test_seconds_are_bounded(type_in, seconds):
    refused(type_in("demo", "--field", "--seconds", seconds), "seconds is", "0 to 3600")


@contextmanager
def playing(folder, *words):
    """The command in a process whose temporary files are in ``folder``; its page, and itself."""
    process = subprocess.Popen(
        [sys.executable, "-m", "skip2lora", "demo", "--field", "--json", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(folder)},
    )  # fmt: skip
    try:
        line = process.stderr.readline()
        yield line.split("the page: ")[1].split()[0], process
    finally:
        process.kill()
        process.communicate()


def status(url):
    with urllib.request.urlopen(url + "/api/status", timeout=30) as answer:  # noqa: S310
        return json.load(answer)


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_story_and_nothing_stays(tmp_path, stop, code):
    with playing(tmp_path) as (url, process):
        assert status(url)["name"] == "fan"
        process.send_signal(stop)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (code, "")
    assert len(errors.splitlines()) == 1
    assert "nothing was written" in errors or ".safetensors was written" in errors
    assert not list(tmp_path.iterdir())


def test_the_page_stays_until_a_signal_and_that_is_no_failure(tmp_path):
    with playing(tmp_path, "--seconds", "0", "--stay") as (url, process):
        for _ in range(600):
            now = status(url)
            if now["n_labels"] == 60 and now["n_predicted"] >= story.N_SAMPLES:
                break
            time.sleep(0.1)
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310
            assert b"<html" in answer.read()
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(output)["accuracy_after"] > 0.75
    assert not list(tmp_path.iterdir())
