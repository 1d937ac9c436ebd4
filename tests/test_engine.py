"""Tasks in this process, and on a cluster whose workers may die."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dask_cluster
import onnx_models
import skip2lora as s2
from dask_cluster import Cluster, add, open_number
from desk import Answer, blobs, digests, refused
from skip2lora import engine
from skip2lora.cli import fill
from skip2lora.engine import Dask, Here, engine_at

TypeIn = Callable[..., Answer]


def test_tasks_here_are_done_in_order() -> None:
    results = list(Here().results(partial(open_number, 10), add, [1, 2, 3]))
    assert [(number, result[:2]) for number, result in results] == [
        (at, (11 + at, os.getpid())) for at in range(3)
    ]
    assert len({result[2] for _, result in results}) == 1
    with engine_at(None) as runner:
        assert isinstance(runner, Here)


@pytest.mark.parametrize(
    "address",
    ["", "127.0.0.1:8786", "tcp://127.0.0.1:8786", "dask://", "dask://host", "dask://host:x",
     "dask://host:1/path", "dask://host:99999", "ray://127.0.0.1:1", "dask://[::1"],
)  # fmt: skip
def test_addresses_that_cannot_be(address: str) -> None:
    with pytest.raises(s2.ParameterError, match=r"engine is '.*, expected the address"):
        engine_at(address).__enter__()


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(s2.MissingExtraError, match=r"skip2lora\[cluster\]"):
        engine_at("dask://127.0.0.1:8786").__enter__()


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    pytest.importorskip("distributed", reason="needs dask: pip install --group test")
    started = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        started.start()
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="module")
def cluster(scheduler: Cluster) -> Cluster:
    """With two workers."""
    scheduler.add(2)
    with engine_at(scheduler.engine) as runner:
        assert isinstance(runner, Dask)
        runner._client.wait_for_workers(2, timeout=60)
    return scheduler


def test_who_does_not_answer_is_said(scheduler: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_SECONDS", 1)
    monkeypatch.setattr(engine, "_FIRST_WORKER", 1)
    with pytest.raises(s2.ClusterError, match="no Dask scheduler answers at dask"):
        engine_at("dask://127.0.0.1:9").__enter__()
    with pytest.raises(s2.ClusterError, match="has no worker"):
        engine_at(scheduler.engine).__enter__()


def test_each_run_is_its_own(cluster: Cluster) -> None:
    with engine_at(cluster.engine) as runner:
        assert isinstance(runner, Dask)
        tasks = [1, 2, 3, 4]
        first = runner.results(partial(open_number, 10), add, tasks)
        of_first = dict([next(first)])  # the other begins before it ends
        of_second = dict(runner.results(partial(open_number, 20), add, tasks))
        of_first |= dict(first)
        for start, results in ((10, of_first), (20, of_second)):
            assert [results[at][0] - start for at in range(4)] == tasks
            opened = {result[1:] for result in results.values()}
            assert len(opened) == len({process for process, _ in opened})  # once in each
            assert os.getpid() not in {process for process, _ in opened}
        assert set(runner._client.run(dask_cluster.n_opened).values()) == {0}
        imported = runner._client.run_on_scheduler(lambda: set(__import__("sys").modules))
        assert dask_cluster.__name__ not in imported  # the scheduler passes tasks on as bytes
        with pytest.raises(s2.ClusterError, match=r"\(ValueError: no number below 0\)"):
            list(runner.results(partial(open_number, -1), add, [1]))


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, ...]:
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    monkeypatch.chdir(tmp_path)
    onnx_models.save(onnx_models.mlp([12, 8, 6, 3]), tmp_path / "a.onnx")
    x, y = blobs(1, n_samples=2600)
    np.savez("field.npz", X=x, y=y)
    return ("fill", "a.onnx", "field.npz", "--json", "--cache-dir")


def rows_of(folder: str) -> tuple[int, int]:
    """How many rows there are, and of how many samples."""
    ids = []
    for shard in Path(folder).glob("*.npy"):
        with shard.open("rb") as file:
            np.load(file)
            ids.append(np.load(file))
    return sum(map(len, ids)), len(np.unique(np.concatenate(ids), axis=0))


def test_a_cluster_fills_what_one_process_fills(
    cluster: Cluster, words: tuple[Any, ...], type_in: TypeIn
) -> None:
    one = type_in(*words, "one").json
    many = type_in(*words, "many", "--engine", cluster.engine)
    assert many.json["digest"] == one["digest"], many.err
    assert (many.json["n_forwards"], many.json["n_shards"], many.json["shard"]) == (2600, 11, None)
    assert rows_of("many") == rows_of("one") == (2600, 2600)
    again = type_in(*words, "many", "--engine", cluster.engine).json
    assert (again["n_forwards"], again["digest"]) == (0, one["digest"])
    refused(type_in(*words, "many", "--engine", cluster.engine, "--taps", 1), "are of tapping")
    refused(type_in(*words, "x", "--engine", cluster.engine, "--shard", "1/2"), "--shard is 1/2")
    refused(type_in("fill", "a.onnx", "-", *words[3:], "x", "--engine", "dask://h:1"), "DATA is -")
    refused(type_in(*words, "x", "--engine", "h:1"), "8786: correct --engine")


def test_many_adapters_are_made_on_it(
    cluster: Cluster, words: tuple[Any, ...], type_in: TypeIn
) -> None:
    del words
    Path("devices").mkdir()
    for seed in range(5):
        x, y = blobs(seed)
        np.savez(f"devices/{seed}.npz", X=x, y=y)
    Path("devices/bad.npz").write_text("none")
    command = ("adapt-many", "a.onnx", "devices", "--json", "--epochs", 2, "-o")
    here = type_in(*command, "here")
    there = type_in(*command, "there", "--engine", cluster.engine)
    assert here.code == there.code == 2
    rows = [[row | {"data": None} for row in of.json["adapters"]] for of in (here, there)]
    assert [row["error"] is None for row in rows[1]] == [True] * 5 + [False]
    assert [row | {"error": None} for row in rows[0]] == [row | {"error": None} for row in rows[1]]
    assert digests(Path("here")) == digests(Path("there"))
    assert len(digests(Path("there"))) == 10


def test_a_worker_that_dies_in_the_middle(
    cluster: Cluster, words: tuple[Any, ...], type_in: TypeIn
) -> None:
    one = type_in(*words, "one").json
    options = dict.fromkeys(
        ("size", "mean", "std", "target", "ignore", "no_target", "split", "output_name", "taps",
         "grid", "mask")
    ) | {"threads": 1}  # fmt: skip
    files = [Path(name).resolve() for name in ("a.onnx", "field.npz", "rows")]
    opening, marker = partial(fill._open, *files, options), Path("died").resolve()
    shards = [(number, 5) for number in range(5)]
    with engine_at(cluster.engine) as runner:
        assert runner.n_at_once == 2
        call = partial(dask_cluster.fill_and_die, marker)
        results = dict(runner.results(opening, call, shards))
    assert marker.read_text() == "256"  # of 520 samples of that shard
    assert sorted(results) == [0, 1, 2, 3, 4]
    assert rows_of("rows") == (2600, 2600)
    last = type_in(*words, "rows", "--engine", cluster.engine).json
    assert (last["n_forwards"], last["digest"]) == (0, one["digest"])


def test_a_task_that_ends_every_worker_is_given_up(cluster: Cluster) -> None:
    cluster.add(3)
    with engine_at(cluster.engine) as runner:
        opening = partial(open_number, 0)
        with pytest.raises(s2.ClusterError, match="KilledWorker"):
            list(runner.results(opening, dask_cluster.always_die, [1]))
