"""The fleet of examples/flower: a SuperLink and two SuperNodes on this machine, one round."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.datasets.simulated import make_task
from skip2lora.serve.gate import verdict

APP = Path(__file__).resolve().parents[2] / "examples" / "flower"
PROGRAMS = Path(sys.executable).parent
FILES = ("adapter_config.json", "adapter_model.safetensors")


@dataclass(frozen=True)
class Fleet:
    model: s2.MLP
    devices: tuple[Path, Path]
    out: Path
    said: str

    @property
    def report(self) -> dict[str, object]:
        return json.loads(Path(f"{self.out}.json").read_text(encoding="utf-8"))


def free_port() -> int:
    with socket.socket() as of:
        of.bind(("127.0.0.1", 0))
        return of.getsockname()[1]


@contextmanager
def running(program: str, *options: str, log: Path, env: dict[str, str]) -> Iterator[None]:
    """A program of Flower until the end of the block, with all that it has started."""
    with log.open("wb") as said:
        process = subprocess.Popen(
            [PROGRAMS / program, *options], stdout=said, stderr=subprocess.STDOUT, env=env
        )
    try:
        yield
    finally:
        process.terminate()  # which ends what it has started
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(port: int, until: float) -> bool:
    while time.monotonic() < until:
        with socket.socket() as of:
            if of.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.1)
    return False


def write_devices(folder: Path) -> tuple[s2.MLP, tuple[Path, Path]]:
    """A model of the quiet room, and two devices in a noisy one, which see classes unequally."""
    lab, field, _ = make_task(0, 240)
    start = s2.MLP.create((256, 24, 24, 3), seed=0)
    model = s2.pretrain(start, lab.x, lab.y, epochs=20, seed=0)
    model.save(folder / "model.safetensors")
    random = np.random.default_rng(3)
    devices = (folder / "one", folder / "two")
    for device, likely in zip(devices, (1, 2), strict=True):
        device.mkdir()
        weight = np.where(field.y == likely, 4.0, 1.0)
        rows = random.choice(len(field.y), 90, replace=False, p=weight / weight.sum())
        np.savez(device / "data.npz", X=field.x[rows], y=field.y[rows])
    return model, devices


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    pytest.importorskip("flwr", reason="needs flwr, in a virtual environment of its own")
    folder = tmp_path_factory.mktemp("fleet")
    model, devices = write_devices(folder)
    home, out = folder / "home", folder / "merged"
    home.mkdir()
    env = os.environ | {
        "FLWR_HOME": str(home), "FLWR_TELEMETRY_ENABLED": "0", "OMP_NUM_THREADS": "1",
        "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    link = free_port()
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{link}"\n'
        "insecure = true\n",
        encoding="utf-8",
    )
    with ExitStack() as programs:
        log = folder / "superlink.log"
        options = ("--insecure", "--host", "127.0.0.1", "--port", str(link))
        programs.enter_context(
            running(
                "flower-superlink", *options, "--disable-runtime-dependency-installation",
                log=log, env=env,
            )
        )  # fmt: skip
        assert answers(link, time.monotonic() + 120), log.read_text(encoding="utf-8")
        for device in devices:
            own = (
                f"model='{folder / 'model.safetensors'}' data='{device / 'data.npz'}' "
                f"folder='{device}'"
            )
            programs.enter_context(
                running(
                    "flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{link}",
                    "--host", "127.0.0.1", "--port", str(free_port()), "--node-config", own,
                    log=device / "log", env=env,
                )
            )  # fmt: skip
        done = subprocess.run(
            [PROGRAMS / "flwr", "run", APP, "here", "--stream", "--run-config", f"out='{out}'"],
            capture_output=True, text=True, check=False, timeout=300, env=env,
        )  # fmt: skip
    logs = "".join(of.read_text(encoding="utf-8") for of in (log, *(d / "log" for d in devices)))
    assert Path(f"{out}.json").is_file(), done.stdout + done.stderr + logs
    return Fleet(model, devices, out, done.stdout)


def test_merged_adapter_is_that_of_merge_by_samples(fleet: Fleet, tmp_path: Path) -> None:
    own = [device / "own" for device in fleet.devices]
    each = [int((~kept_apart(np.load(of / "data.npz")["X"])).sum()) for of in fleet.devices]
    assert each[0] != each[1], "weights that are the same would not show"
    expected = []
    for number, step in enumerate((1, -1)):  # the server's order is that of numbers it draws
        s2.merge(own[::step], tmp_path / str(number), weights=each[::step])
        expected.append([(tmp_path / str(number) / name).read_bytes() for name in FILES])
    assert [(fleet.out / name).read_bytes() for name in FILES] in expected


def test_bytes_that_are_told_are_those_of_adapters_alone(fleet: Fleet) -> None:
    came = sum((device / "own" / name).stat().st_size for device in fleet.devices for name in FILES)
    went = 2 * sum((fleet.out / name).stat().st_size for name in FILES)
    assert fleet.report["bytes_from_devices"] == came
    assert fleet.report["bytes_to_devices"] == went
    assert f"{came:,} bytes came, {went:,} went" in fleet.said


def test_each_device_judges_by_samples_that_no_adapter_learned(fleet: Fleet) -> None:
    report = fleet.report
    assert [of["what"] for of in (*report["own"], *report["fleet"])] == ["own"] * 2 + ["fleet"] * 2
    learned, said = [], []
    for device in fleet.devices:
        # Which of own and fleet's is in use, worked out here from the files it has.
        data = np.load(device / "data.npz")
        own = s2.AdaptedModel.load(fleet.model, device / "own")
        merged = s2.AdaptedModel.load(fleet.model, fleet.out)
        apart = kept_apart(data["X"])
        x, y = data["X"][apart], data["y"][apart]
        learned.append(int((~apart).sum()))
        first = verdict(y, fleet.model.predict(x), own.predict(x))
        before = own if first.adopt else fleet.model
        second = verdict(y, before.predict(x), merged.predict(x))
        said.append((first.reason, second.reason))
        used = merged if second.adopt else before
        assert (device / "adapter").exists() == (used is not fleet.model)
        if used is not fleet.model:
            in_use = s2.AdaptedModel.load(fleet.model, device / "adapter")
            np.testing.assert_array_equal(in_use.logits(x), used.logits(x))
    assert sorted(learned) == sorted(report["samples"])
    pairs = zip(report["own"], report["fleet"], strict=True)
    assert sorted((a["reason"], b["reason"]) for a, b in pairs) == sorted(said)
    assert any(of["adopt"] for of in report["own"])


def kept_apart(x: np.ndarray) -> np.ndarray:
    return np.array([zlib.crc32(sample.tobytes()) % 3 == 0 for sample in x])
