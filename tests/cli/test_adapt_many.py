"""``skip2lora adapt-many``: what ``adapt`` gives for each, and a table of what failed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from desk import NAMES, Answer, blobs, digests, refused
from sensor_data import impulse, motion, walk_run_sit
from skip2lora.adapt import adapt
from skip2lora.cli.adapt_many import _size, command
from skip2lora.engine import Here
from skip2lora.training.room import Choice

TypeIn = Callable[..., Answer]


@pytest.fixture
def words(desk: Path) -> tuple[str, ...]:
    (desk / "devices").mkdir()
    for name, seed in (("a.b", 1), ("c", 2)):
        x, y = blobs(seed, shift=3.0)
        np.savez(desk / "devices" / f"{name}.npz", X=x, y=y, class_names=np.array(NAMES))
    (desk / "devices" / "notes.md").write_text("none")
    (desk / "devices" / ".hidden").mkdir()
    return ("adapt-many", "model.safetensors", "devices", "-o", "devices/out")


@pytest.mark.parametrize(
    "options",
    [
        (), ("--epochs", 3, "--rank", 2), ("--no-keep-outputs", "--precision", 0.9),
        ("--memory", "64GiB", "--solver", "exact"),
    ],
)  # fmt: skip
def test_each_is_as_adapt_makes_it(
    words: tuple[str, ...], options: tuple[object, ...], type_in: TypeIn
) -> None:
    many = type_in(*words, *options, "--json")
    assert many.code == 0, many.err
    assert "devices: notes.md left out, as no file of samples" in many.err
    for name, row in zip(("a.b", "c"), many.json["adapters"], strict=True):
        one = type_in(
            "adapt", words[1], f"devices/{name}.npz", "-o", "one", "--force", "--json", *options
        )
        assert digests(Path("devices/out", name)) == digests(Path("one"))
        assert (row["name"], row["error"], row["skipped"]) == (name, None, False)
        for key in ("accuracy", "held_out", "before", "after", "n_samples"):
            assert row[key] == one.json[key], key
    assert (many.json["n_adapted"], many.json["n_skipped"], many.json["n_failed"]) == (2, 0, 0)


def test_files_of_streams_are_tasks(desk: Path, type_in: TypeIn) -> None:
    """Also those that are no tables; a .json only if it is a sample of Edge Impulse."""
    walk_run_sit(desk / "lab.csv", users=2)
    asked = ("--window", 50, "--features", "statistics", "--group", "user,session")
    made = type_in("pretrain", "lab.csv", *asked, "--epochs", 3, "-o", "w.safetensors")
    assert made.code == 0, made.err
    (desk / "tasks").mkdir()
    for number in range(2):
        impulse(desk / "tasks" / f"walk.{number}.json", "walk")
    words = ("adapt-many", "w.safetensors", "tasks", "-o", "out", "--solver", "steps", "--json")
    many = type_in(*words)
    assert many.code == 0, many.out
    rows = [(of["name"], of["n_samples"]) for of in many.json["adapters"]]
    assert rows == [("walk.0", 4), ("walk.1", 4)]
    labels = ["sit", "walk"] * 12
    x = [motion(label, 4, seed=at) for at, label in enumerate(labels)]
    series = [":".join(",".join(map(str, channel)) for channel in each.T) for each in x]
    text = "\n".join(f"{each}:{label}" for each, label in zip(series, labels, strict=True))
    head = "@timestamps false\n@classlabel true sit walk\n@data\n"
    (desk / "tasks" / "series.ts").write_text(head + text)
    (desk / "tasks" / "index.json").write_text('{"files": 3}')
    words = ("adapt-many", "model.safetensors", "tasks", "-o", "m", "--no-keep-outputs", "--json")
    many = type_in(*words)
    assert many.code == 2  # of one class no output can be learned anew
    assert many.err == "skip2lora: tasks: index.json left out, as no file of samples\n"
    first, *others = many.json["adapters"]
    assert (first["name"], first["n_samples"], first["error"]) == ("series", 24, None)
    assert [of["name"] for of in others] == ["walk.0", "walk.1"]


def test_failures_are_listed_and_the_others_made(words: tuple[str, ...], type_in: TypeIn) -> None:
    x, y = blobs(3)
    np.savez("devices/b.npz", X=x[:, :5], y=y, class_names=np.array(NAMES))
    many = type_in(*words)
    assert many.code == 2
    first, last = many.out.splitlines()
    assert first.startswith("b: X has 5 columns, the model expects 12")
    assert last == "devices/out: 2 adapted, 0 done before, 1 failed"
    before = digests(Path("devices/out"))
    np.savez("devices/b.npz", X=x, y=y, class_names=np.array(NAMES))
    again = type_in(*words, "--json")  # goes on
    assert again.code == 0
    skipped = [(row["name"], row["skipped"]) for row in again.json["adapters"]]
    assert skipped == [("a.b", True), ("b", False), ("c", True)]
    assert before.items() < digests(Path("devices/out")).items()
    anew = type_in(*words, "--json", "--force", "--epochs", 2)
    assert (anew.json["n_adapted"], anew.json["n_skipped"]) == (3, 0)
    assert set(digests(Path("devices/out")).values()).isdisjoint(before.values())


def test_what_stands_in_the_way_is_said(words: tuple[str, ...], type_in: TypeIn) -> None:
    Path("devices/out/c").mkdir(parents=True)
    Path("devices/out/c/mine").write_text("mine")
    many = type_in(*words)
    assert many.code == 2
    assert many.out.startswith("c: devices/out/c exists and holds mine, expected")
    assert "1 adapted, 0 done before, 1 failed" in many.out
    assert Path("devices/out/c/mine").read_text() == "mine"


def test_what_cannot_be(words: tuple[str, ...], type_in: TypeIn) -> None:
    Path("devices/notes.md").unlink()
    refused(type_in(*words[:2], "nowhere", *words[3:]), "nowhere")
    refused(type_in(*words[:2], "adapter", *words[3:]), "adapter has 2 files and none of samples")
    refused(type_in("adapt-many", "no.onnx", *words[2:], "--json"), "no.onnx does not exist")
    Path("devices/c.csv").write_text("label,a\n0,1\n")
    refused(type_in(*words), "has c.csv and c.npz, which would both be c, expected names")


def test_each_is_made_within_memory(
    words: tuple[str, ...], type_in: TypeIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert type_in(*words, "--json").json["adapters"][0]["memory"] is None
    there = type_in(*words, "--force", "--memory", "64GiB", "--json").json["adapters"]
    assert [row["memory"] for row in there] == ["as asked"] * 2
    way = Choice("by steps", {"solver": "steps", "recipe": None, "rank": 2}, 60, 1)
    with monkeypatch.context() as patched:
        patched.setattr("skip2lora.cli.learning.choose", lambda *_, **__: way)
        chosen = type_in(*words, "--force", "--memory", "9GiB", "--json").json["adapters"]
    assert [row["memory"] for row in chosen] == ["by steps"] * 2
    type_in("adapt", words[1], "devices/c.npz", "-o", "one", "--solver", "steps", "--rank", 2)
    assert digests(Path("devices/out/c")) == digests(Path("one"))
    few = type_in(*words, "--force", "--memory", "9MiB")
    assert few.code == 2
    assert few.out.count("set --memory to more") == 2


@pytest.mark.parametrize("options", [(), ("--epochs", 3), ("--solver", "exact")])
def test_suspects_are_listed_beside_each(
    words: tuple[str, ...], options: tuple[object, ...], type_in: TypeIn
) -> None:
    x, y = blobs(2, n_samples=120, shift=3.0)
    y[[7, 50]] = (y[[7, 50]] + 1) % 3
    weight = np.arange(len(x)) > 5  # those left out are counted
    np.savez("devices/c.npz", X=x, y=y, w=weight.astype(float), class_names=np.array(NAMES))
    x, y = blobs(1, shift=3.0)
    np.savez("devices/a.b.npz", X=x, y=y, w=np.ones(len(x)), class_names=np.array(NAMES))
    options = (*options, "--weight", "w")
    many = type_in(*words, *options, "--suspects", "--json")
    assert many.code == 0, many.err
    for name, row in zip(("a.b", "c"), many.json["adapters"], strict=True):
        data = f"devices/{name}.npz"
        listed = ("-o", "one", "--suspects", "one.csv", "--force", "--json")
        one = type_in("adapt", words[1], data, *listed, *options)
        own = Path(f"devices/out/{name}.suspects.csv")
        assert own.read_text() == Path("one.csv").read_text()
        assert row["suspects"] == one.json["suspects"] | {"output": str(own)}
        assert digests(Path("devices/out", name)) == digests(Path("one"))
    assert {7, 50} <= {int(line.split(",")[0]) for line in own.read_text().splitlines()[1:]}


def test_a_list_of_suspects_is_there_before_its_adapter(
    words: tuple[str, ...], type_in: TypeIn
) -> None:
    plain = type_in(*words, "--json")
    assert [row["suspects"]["output"] for row in plain.json["adapters"]] == [None, None]
    before = digests(Path("devices/out"))
    late = type_in(*words, "--suspects")
    assert (late.code, late.out.count("was made without")) == (2, 2)
    assert "c: --suspects is set, but devices/out/c was made without c.suspects.csv" in late.out
    assert digests(Path("devices/out")) == before
    done = type_in(*words, "--suspects", "--force")
    assert "devices/out: NAME.suspects.csv of 2, " in done.out
    assert [path.name for path in sorted(Path("devices/out").glob("*.csv"))] == [
        "a.b.suspects.csv", "c.suspects.csv",
    ]  # fmt: skip
    again = type_in(*words, "--suspects", "--json")
    assert (again.code, again.json["n_skipped"]) == (0, 2)
    Path("devices/out/c.suspects.csv").unlink()
    Path("devices/out/c.suspects.csv").mkdir()
    stuck = type_in(*words, "--suspects", "--force")
    assert stuck.code == 2
    assert stuck.out.startswith("c: ")
    assert "1 adapted, 0 done before, 1 failed" in stuck.out
    without = type_in(*words, "--force", "--suspects", "--method", "ft-all")
    assert (without.code, without.out.count("suspects is on for classification")) == (2, 2)


def test_no_option_is_taken_and_left_aside() -> None:
    handled = {
        "taps", "grid", "threads", "mask", "output_name", "target", "ignore", "split", "weight",
        "size", "mean", "std", "rate", "window", "hop", "crop", "gain", "segments", "channels",
        "confidence", "category", "margin", "square", "every",
        "features", "time", "label_by", "mixed", "target_of",
        "class_names", "precision", "group", "memory", "cache_dir", "no_lab_set", "force",
        "as_json", "engine", "output", "model", "folder",
    }  # fmt: skip
    taken = {each.name for each in command.params}
    assert taken - handled <= set(adapt.__kwdefaults__ or {}), (
        "say in _OF_ONE that adapt alone does"
    )


@pytest.mark.parametrize(
    ("n_items", "n_at_once", "size"),
    [(1, 2, 1), (10, 2, 5), (60, 2, 30), (1000, 2, 50), (10_000, 2, 313), (200, 8, 25)],
)
def test_a_task_has_50_or_more_where_all_workers_get_some(
    n_items: int, n_at_once: int, size: int
) -> None:
    runner = Here()
    runner.n_at_once = n_at_once
    assert _size(n_items, runner, here=False) == size
    assert _size(n_items, runner, here=True) == 1
