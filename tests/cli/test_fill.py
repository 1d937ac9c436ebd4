"""``skip2lora fill``: the cache of ``adapt``, filled before it, by any number of processes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import onnx_models
from desk import NAMES, Answer, refused
from skip2lora import system
from skip2lora.cli import fill as cli_fill
from skip2lora.data import known, stored
from skip2lora.engine import Here

TypeIn = Callable[..., Answer]


@pytest.fixture
def words(desk: Path) -> tuple[str, ...]:
    onnx_models.save(onnx_models.mlp([12, 8, 6, 3]), desk / "a.onnx")
    return ("fill", "a.onnx", "field.npz", "--cache-dir", "rows")


def test_shards_give_what_one_process_gives(words: tuple[str, ...], type_in: TypeIn) -> None:
    whole = type_in(*words[:-1], "whole", "--json").json
    assert (whole["n_samples"], whole["n_forwards"], whole["n_shards"]) == (60, 60, 1)
    first = type_in(*words, "--shard", "1/2", "--json").json
    assert (first["n_samples"], first["n_forwards"], first["digest"]) == (60, 30, None)
    assert (first["shard"], first["n_shards"], first["cache_dir"]) == (1, 2, "rows")
    second = type_in(*words, "--shard", "2/2", "--json").json
    assert (second["shard"], second["n_forwards"]) == (0, 30)
    assert second["digest"] == whole["digest"]
    for shard in ("0/2", "2/2"):  # as it was typed
        assert type_in(*words, "--shard", shard).out == (
            f"rows: 60 samples, shard {shard}, 0 computed now; all rows are there, SHA-256 "
            f"{whole['digest']}\n"
        )
    adapted = type_in("adapt", *words[1:], "-o", "out", "--json", "--class-names", ",".join(NAMES))
    assert adapted.json["n_forwards"] == 0


def test_rows_of_a_folder_of_images_are_those_of_adapt(cnn: str, type_in: TypeIn) -> None:
    pil = pytest.importorskip("PIL.Image", reason="needs Pillow")
    for name in ("a", "b", "c"):
        Path("photos", name).mkdir(parents=True)
        for at in range(4):
            pil.new("RGB", (9, 9), (40 * at, 80, 10)).save(f"photos/{name}/{at}.png")
    words = (cnn, "photos", "--mean", "0.5", "--cache-dir", "rows", "--json")
    filled = type_in("fill", *words)
    assert filled.json["n_samples"] == 12, filled.err
    adapted = type_in("adapt", *words, "-o", "out", "--new-classes")
    assert adapted.json["n_forwards"] == 0, adapted.err


def test_what_cannot_be(words: tuple[str, ...], type_in: TypeIn) -> None:
    refused(type_in(*words, "--shard", "3/2"), "shard is 3/2, expected one of")
    for text in ("3", "a/b", "1/", "-1/2", "1/2/3"):
        refused(type_in(*words, "--shard", text), f"--shard is {text}, expected a number of how")
    assert type_in(*words).code == 0
    refused(type_in(*words, "--taps", 1), "the rows in rows are of tapping", "another folder")
    refused(type_in(*words[:-1], "a.onnx"), "cannot make a.onnx")


def test_what_a_stop_leaves_is_said(
    words: tuple[str, ...], type_in: TypeIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = cli_fill.fill

    def stopped(*of: Any, **options: Any) -> None:
        if rows_first:
            compute(*of, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_fill, "fill", stopped)
    for said in ("nothing", "rows"):
        rows_first = said == "rows"
        answer = type_in(*words)
        assert answer.code == 130
        assert answer.err == f"skip2lora: stopped by Ctrl-C, {said} was written\n"


def test_who_works_on_a_cluster_checks_no_file_again(
    words: tuple[str, ...], type_in: TypeIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = type_in(*words[:-1], "alone", "--json").json["digest"]
    monkeypatch.setattr(stored, "LEAST_BYTES", 1)
    opened: list[Any] = []
    check, opening = stored._check, cli_fill._open
    checks: list[Any] = []
    monkeypatch.setattr(stored, "_check", lambda *of: checks.append(of) or check(*of))
    monkeypatch.setattr(
        cli_fill, "_open", lambda *of, **more: opened.append(more) or opening(*of, **more)
    )
    monkeypatch.setattr(cli_fill, "engine_at", lambda _: nullcontext(Here()))
    filled = type_in(*words, "--engine", "dask://127.0.0.1:1", "--json").json
    assert (filled["n_forwards"], filled["digest"]) == (60, digest)
    assert [[*more] for more in opened] == [[], ["checked"]]
    assert len(checks) == 1


def test_what_a_cluster_hashed_on_this_machine_is_not_hashed_again(
    words: tuple[str, ...], type_in: TypeIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "LEAST_BYTES", 1)
    monkeypatch.setattr(known, "MARGIN_NS", -1)  # the file is from just now
    monkeypatch.setattr(system, "_mounted", lambda device, second: "ext4")
    counts: list[int] = []
    hashed = stored.digests_of_parts
    monkeypatch.setattr(
        stored, "digests_of_parts", lambda x, some: counts.append(len(some)) or hashed(x, some)
    )
    monkeypatch.setattr(cli_fill, "engine_at", lambda _: nullcontext(Here()))
    monkeypatch.setattr(cli_fill, "SAMPLES_AT_ONCE", 20)
    on_cluster = type_in(*words, "--engine", "dask://127.0.0.1:1", "--json").json
    assert counts == [20, 20, 20]
    monkeypatch.setattr(stored, "LEAST_BYTES", 1 << 24)
    assert type_in(*words[:-1], "alone", "--json").json["digest"] == on_cluster["digest"]
