"""Streams of sensors on the command line: every command takes the same windows."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from desk import Answer, refused
from sensor_data import CHANNELS, motion, table, walk_run_sit

Type = Callable[..., Answer]
ASKED = ("--window", 50, "--hop", 25, "--features", "statistics", "--group", "user,session")


@pytest.fixture
def field(type_in: Type, tmp_path: Path) -> Path:
    """A network for features of streams, and streams to adapt to and to test on."""
    walk_run_sit(tmp_path / "lab.csv", users=3)
    walk_run_sit(tmp_path / "field.csv", users=4, seed=100)
    walk_run_sit(tmp_path / "others.csv", users=2, seed=500)
    made = type_in(
        "pretrain", "lab.csv", *ASKED, "--hidden", "16,16", "--epochs", 20, "-o", "m.safetensors"
    )
    assert made.code == 0, made.err
    return tmp_path


def adapted(type_in: Type, *words: object) -> Answer:
    made = type_in("adapt", "m.safetensors", "field.csv", *ASKED, "-o", "a", *words)
    assert made.code == 0, made.err
    return made


def test_from_rows_to_predictions(field: Path, type_in: Type) -> None:
    """All but DATA and the model is kept with the adapter, whatever order the columns have."""
    made = adapted(type_in, "--json")
    assert made.json["n_samples"] == 4 * 3 * 7
    assert made.json["held_out"]["n_folds"] == 4  # users
    kept = json.loads((field / "a" / "adapter_config.json").read_text())["windows"]
    assert kept == {
        "kind": "sensors", "window": 50, "hop": 25, "channels": [*CHANNELS], "rate": 50.0,
        "features": ["statistics"], "group": ["user", "session"], "mixed": "majority",
    }  # fmt: skip
    facts = type_in("evaluate", "m.safetensors", "others.csv", "--adapter", "a", "--json").json
    assert facts["accuracy"] > 0.9
    assert facts["n_samples"] == 2 * 3 * 7
    shown = type_in("inspect", "a").out
    assert "window 50, hop 25, channels ax, ay, az, features statistics, rate 50 Hz" in shown
    rows = list(csv.DictReader((field / "others.csv").read_text().splitlines()))
    names = ["label", "az", "note", "ay", "ax", "user", "session", "timestamp"]
    table(field / "moved.csv", {name: [row.get(name, "-") for row in rows] for name in names})
    for data in ("others.csv", "moved.csv"):
        answer = type_in(
            "predict", "m.safetensors", data, "--adapter", "a", "--force", "-o", f"{data}.p"
        )
        assert answer.code == 0, answer.err
    assert (field / "moved.csv.p").read_text() == (field / "others.csv.p").read_text().replace(
        "others.csv", "moved.csv"
    )
    said = list(csv.DictReader((field / "others.csv.p").read_text().splitlines()))
    assert len(said) == 42
    assert sum(row["name"] == row["true"] for row in said) == round(42 * facts["accuracy"])
    assert (said[1]["start"], said[1]["end"]) == ("1700000000.500", "1700000001.500")


def test_a_network_keeps_its_windows(field: Path, type_in: Type) -> None:
    """Nothing is told again: as if all were, whatever tells who and when."""
    shown = type_in("inspect", "m.safetensors", "--json").json["windows"]
    assert (shown["window"], shown["hop"], shown["features"]) == (50, 25, ["statistics"])
    assert (
        "window 50, hop 25, channels ax, ay, az, features statistics, rate 50 Hz"
        in type_in("inspect", "m.safetensors").out
    )
    told = type_in("evaluate", "m.safetensors", "others.csv", *ASKED, "--json")
    assert told.code == 0, told.err
    assert type_in("evaluate", "m.safetensors", "others.csv", "--json").json == told.json
    assert type_in("plan", "m.safetensors", "others.csv", "--json").json["n_samples"] == 42
    for folder, asked in (("told", ASKED), ("known", ()), ("user", ("--group", "user,session"))):
        made = type_in("adapt", "m.safetensors", "field.csv", *asked, "-o", folder, "--json")
        assert made.code == 0, made.err
        assert made.json["held_out"]["n_folds"] == 4
    files = [field / each / "adapter_model.safetensors" for each in ("told", "known", "user")]
    assert len({file.read_bytes() for file in files}) == 1
    assert kept_group(field / "user") == ["user", "session"]
    (field / "f").mkdir()
    (field / "field.csv").rename(field / "f" / "one.csv")
    for asked, group in (((), ["user", "session"]), (("--group", "user"), ["user"])):
        many = type_in("adapt-many", "m.safetensors", "f", "-o", "n", *asked, "--json", "--force")
        assert many.code == 0, many.err
        assert many.json["adapters"][0]["n_samples"] == 84
        assert kept_group(field / "n" / "one") == group


def kept_group(folder: Path) -> list[str]:
    """What an adapter keeps of what tells streams apart."""
    kept = json.loads((folder / "adapter_config.json").read_text())["windows"]
    return list(kept["group"])


def test_a_network_of_pretrain_predicts_streams_alone(
    field: Path, type_in: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("predict", "m.safetensors", "others.csv", "-o", "p.csv")
    assert type_in(*words).code == 0
    content = (field / "others.csv").read_bytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    live = type_in("predict", "m.safetensors", "-", "--follow")
    assert live.code == 0, live.err
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    assert type_in("predict", "m.safetensors", "-", "-o", "q.csv").code == 0
    piped = (field / "q.csv").read_text()
    assert piped == (field / "p.csv").read_text().replace("others.csv", "standard input")
    (whole, rows) = (list(csv.DictReader(text.splitlines())) for text in (
        (field / "p.csv").read_text(), live.out,
    ))  # fmt: skip
    assert len(rows) == 42
    assert [row["p_walk"] for row in rows] == [row["p_walk"] for row in whole]


def test_groups_that_nobody_told_hinder_no_steps(field: Path, type_in: Type) -> None:
    """Those that the network keeps: nothing is held out, so nothing can be held out wrongly."""
    words = ("adapt", "m.safetensors", "field.csv", "--epochs", 3, "-o", "s", "--json")
    made = type_in(*words)
    assert made.code == 0, made.err
    assert (made.json["solver"], made.json["held_out"]) == ("steps", None)
    told = type_in(*words, "--force", "--group", "user")
    assert (told.code, told.out) == (2, "")
    assert "--group is set, but nothing" in told.err
    asked = type_in(*words, "--force", "--validation", 0.25)
    assert (asked.code, asked.out) == (2, "")
    assert "belong together (u0, u1, u2, u3)" in asked.err
    judged = type_in(*words, "--force", "--validation-data", "others.csv")
    assert judged.code == 0, judged.err
    (field / "f").mkdir()
    (field / "field.csv").rename(field / "f" / "one.csv")
    many = type_in("adapt-many", "m.safetensors", "f", "-o", "n", "--epochs", 3, "--json")
    assert many.code == 0, many.out


def test_an_array_of_windows_is_no_stream(field: Path, type_in: Type) -> None:
    """Of samples that are ready nothing is cut; an adapter of them takes streams all the same."""
    random = np.random.default_rng(0)
    np.savez(
        field / "ready.npz", X=random.normal(size=(40, 39)), y=np.array([*"abc"])[np.arange(40) % 3]
    )
    made = type_in("adapt", "m.safetensors", "ready.npz", "--new-classes", "-o", "r", "--json")
    assert made.code == 0, made.err
    assert made.json["n_samples"] == 40
    words = ("evaluate", "m.safetensors", "others.csv", "--adapter", "r", "--json")
    assert type_in(*words).json["n_samples"] == 42
    (field / "ready.csv").write_text("a,label\n1,walk\n")
    refused(
        type_in("adapt", "m.safetensors", "ready.csv", "-o", "c"),
        'names "ax"', "or pass samples that are no stream as an .npz",
    )  # fmt: skip


def test_a_network_of_images_keeps_their_size(tmp_path: Path, type_in: Type) -> None:
    from PIL import Image

    random = np.random.default_rng(0)
    for name, mean in (("dark", 60), ("light", 180)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(6):
            pixels = random.normal(mean, 20, (9, 9, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    words = ("pretrain", "images", "--size", "6x5", "--std", "0.5", "--epochs", 3)
    assert type_in(*words, "-o", "i.safetensors").code == 0
    made = type_in("adapt", "i.safetensors", "images", "-o", "i", "--json")
    assert made.code == 0, made.err
    saved = json.loads((tmp_path / "i" / "adapter_config.json").read_text())["images"]
    assert (saved["size"], saved["std"]) == ([6, 5], [0.5])
    assert "size 6x5" in type_in("inspect", "i.safetensors").out
    words = ("adapt", "i.safetensors", "images", "--std", "1", "-o", "j")
    refused(type_in(*words), "--std is 1, the model learned with 0.5")


def test_another_hop_and_other_streams(field: Path, type_in: Type) -> None:
    adapted(type_in)
    x = motion("walk", 80)
    table(field / "one.csv", dict(zip(CHANNELS, x.T.tolist(), strict=True)))
    words = ("predict", "m.safetensors", "one.csv", "--adapter", "a", "-o", "p.csv")
    answer = type_in(*words, "--hop", 10)
    assert answer.code == 0, answer.err
    assert "no column user, session, its rows are taken as one stream" in answer.err
    assert len((field / "p.csv").read_text().splitlines()) == 1 + 4


def test_plan_and_fill_read_the_same_windows(field: Path, type_in: Type) -> None:
    pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")
    import onnx_models as nets

    nets.save(nets.mlp([39, 16, 8, 3]), field / "m.onnx")
    planned = type_in("plan", "m.onnx", "field.csv", *ASKED, "--json")
    assert planned.code == 0, planned.err
    assert planned.json["n_samples"] == 84
    filled = type_in("fill", "m.onnx", "field.csv", *ASKED, "--cache-dir", "rows", "--json")
    assert filled.code == 0, filled.err
    words = ("adapt", "m.onnx", "field.csv", *ASKED, "--no-keep-outputs", "--cache-dir", "rows")
    made = type_in(*words, "-o", "a", "--json")
    assert made.code == 0, made.err
    assert (made.json["n_samples"], made.json["n_forwards"]) == (84, 0)


def test_one_sub_folder_a_class(field: Path, type_in: Type) -> None:
    """Channels are all columns, and files are held out whole."""
    for label in ("walk", "run", "sit"):
        for number in range(4):
            x = motion(label, 150, seed=number)
            columns = dict(zip(CHANNELS, x.T.tolist(), strict=True))
            table(field / "folder" / label / f"{number}.csv", columns)
    words = ("--window", 50, "--features", "statistics", "-o", "b", "--json")
    made = type_in("adapt", "m.safetensors", "folder", *words, "--hop", 50)
    assert made.code == 0, made.err
    assert made.json["n_samples"] == 36
    many = type_in("adapt-many", "m.safetensors", ".", "--window", 50, "-o", "many")
    assert many.code == 2


def test_several_streams(field: Path, type_in: Type) -> None:
    """Columns go by the names of the first, people by theirs, and other streams by their files."""
    rows = list(csv.DictReader((field / "others.csv").read_text().splitlines()))
    names = ["label", "az", "ay", "ax", "user", "session", "timestamp"]
    table(field / "moved.csv", {name: [row[name] for row in rows] for name in names})
    results = []
    for data in ("others.csv", "moved.csv"):
        words = ("--force", "--json", "-o", "b")
        made = type_in("adapt", "m.safetensors", "field.csv", data, *ASKED, *words)
        assert made.code == 0, made.err
        assert made.json["n_samples"] == 84 + 42
        assert made.json["held_out"]["n_folds"] == 4  # u0 and u1 of both files are the same people
        results.append((field / "b" / "adapter_model.safetensors").read_bytes())
    assert results[0] == results[1]
    x = motion("walk", 120)
    table(field / "run.csv", dict(zip(CHANNELS, x.T.tolist(), strict=True)))
    (field / "walks").mkdir()
    for number in range(2):
        table(field / "walks" / f"walk.{number}.csv", dict(zip(CHANNELS, x.T, strict=True)))
    words = ("--window", 50, "--hop", 50, "--label-by", "name", "-o", "c", "--json")
    made = type_in("adapt", "m.safetensors", "walks", "run.csv", *words)
    assert made.code == 0, made.err
    assert made.json["n_samples"] == 6


def test_streams_are_described(field: Path, type_in: Type) -> None:
    for label in ("walk", "run"):
        for number in range(2):
            x = motion(label, 100, seed=number)
            columns = dict(zip(CHANNELS, x.T.tolist(), strict=True))
            times = [at / 50 + 9 * (at > 60) for at in range(100)]
            table(field / "folder" / label / f"{number}.csv", {"time": times, **columns})
    facts = type_in("inspect", "folder", "--json").json
    assert facts == {
        "kind": "streams of sensors", "n_files": 4, "n_rows": 400, "channels": [*CHANNELS],
        "rates_hz": [50.0], "n_streams": 8, "shortest_rows": 39, "longest_rows": 61, "n_gaps": 4,
        "files_a_class": {"run": 2, "walk": 2}, "notes": None,
    }  # fmt: skip
    assert "ax, ay, az" in type_in("inspect", "folder").out
    (field / "bad.ts").write_bytes(b"@data\n1,\xff")
    refused(type_in("inspect", "bad.ts"), "bad.ts: its text is not UTF-8")


def loads(path: Path, *, seed: int, shift: float = 0.0) -> Path:
    """A shaking whose size follows the load, at 50 Hz, of four users; ``shift`` is the sensor's."""
    random = np.random.default_rng(seed)
    size = np.concatenate([0.5 + 0.4 * np.sin(np.arange(300) / 60 + user) for user in range(4)])
    x = size * np.sin(2 * np.pi * np.arange(1200) / 10) + 0.05 * random.normal(size=1200) + shift
    columns = {
        "time": [f"{at / 50:.2f}" for at in range(1200)],
        "user": [f"u{at // 300}" for at in range(1200)],
        "x": x.round(4).tolist(), "load": (10 * size + 3).round(4).tolist(),
    }  # fmt: skip
    return table(path, columns)


def test_numbers_of_windows(tmp_path: Path, type_in: Type) -> None:
    """What a window stands for is told once, kept, and what is measured."""
    loads(tmp_path / "lab.csv", seed=0)
    loads(tmp_path / "field.csv", seed=1, shift=0.8)
    test = loads(tmp_path / "test.csv", seed=2, shift=0.8)
    asked = ("--window", 50, "--hop", 25, "--group", "user", "--features", "statistics")
    words = ("pretrain", "lab.csv", "--task", "regression", "--target", "load", *asked)
    made = type_in(*words, "--target-of", "mean", "-o", "m.safetensors", "--json")
    assert made.code == 0, made.err
    assert made.json["r2"] > 0.9
    before = type_in("evaluate", "m.safetensors", "test.csv", "--json").json
    made = type_in("adapt", "m.safetensors", "field.csv", "-o", "a", "--json")
    assert made.code == 0, made.err
    assert made.json["held_out"]["n_folds"] == 4  # users
    kept = json.loads((tmp_path / "a" / "adapter_config.json").read_text())["windows"]
    assert (kept["target_of"], kept.get("mixed")) == ("mean", None)
    assert "target of mean" in type_in("inspect", "a").out
    after = type_in("evaluate", "m.safetensors", "test.csv", "--adapter", "a", "--json").json
    assert before["r2"] < 0 < 0.9 < after["r2"]
    words = ("predict", "m.safetensors", "test.csv", "--adapter", "a", "-o", "p.csv", "--force")
    assert type_in(*words).code == 0
    got = list(csv.DictReader((tmp_path / "p.csv").read_text().splitlines()))
    load = [float(row["load"]) for row in csv.DictReader(test.read_text().splitlines())]
    starts = [300 * user + at for user in range(4) for at in range(0, 251, 25)]
    true = np.array([np.mean(load[at : at + 50]) for at in starts])
    off = np.array([float(row["prediction"]) for row in got]) - true
    assert len(got) == len(true)
    assert np.sqrt(np.mean(off**2)) == pytest.approx(after["root_mean_squared_error"], rel=1e-3)
    rest = [line.rpartition(",")[0] for line in test.read_text().splitlines()]
    test.write_text("\n".join(rest) + "\n")
    assert type_in(*words).code == 0  # without the column
    again = list(csv.DictReader((tmp_path / "p.csv").read_text().splitlines()))
    assert [row["prediction"] for row in again] == [row["prediction"] for row in got]
    other = type_in(
        "evaluate", "m.safetensors", "field.csv", "--adapter", "a", "--target-of", "last"
    )
    assert (other.code, other.out) == (2, "")
    assert "--target-of is last, the model learned with mean" in other.err
    words = ("adapt", "m.safetensors", "field.csv", "--task", "classification", "--target", "user")
    classes = type_in(*words, "--no-keep-outputs", "-o", "c", "--json")  # of the same windows
    assert classes.code == 0, classes.err
    assert "target_of" not in (tmp_path / "c" / "adapter_config.json").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "adapt m.safetensors field.csv --task regression --target az -o x",
            "add --target-of mean, or --target-of last for that of its last row",
        ),
        ("adapt m.safetensors field.csv --task multi-label -o x", "with several labels as an .npz"),
        (
            "adapt m.safetensors field.csv --target-of mean -o x",
            "the answers of field.csv are classes, expected numbers for it",
        ),
        (
            "adapt m.safetensors field.csv --target-of last --task regression --mixed drop -o x",
            "--mixed is drop beside --target-of of numbers",
        ),
        ("predict m.safetensors field.csv --target-of mean --adapter a -o x", "are classes"),
        ("adapt m.safetensors field.csv --window 2.5 -o x", "expected a whole number of rows"),
        ("adapt m.safetensors field.csv --window 50 --size 8 -o x", "of images and of recordings"),
        (
            "adapt m.safetensors field.csv --window 50 --crop slide -o x",
            "given for field.csv, expected",
        ),
        ("adapt m.safetensors field.csv --window 50 --channels ax,ay,az,b -o x", "learned with ax"),
        ("adapt m.safetensors field.csv --window 50 --features spectrum -o x", "with statistics"),
        ("adapt m.safetensors field.npz --channels ax -o x", "are given for field.npz"),
        ("adapt m.safetensors field.csv --window 50 --weight ax -o x", "--weight names"),
        ("plan m.safetensors --window 50 --channels ax", "--window, --hop, --channels"),
        ("predict m.safetensors field.csv --window 4 --adapter a -o x", "learned with 50"),
        ("predict m.safetensors folder.wav --adapter a -o x", "folder.wav"),
    ],
)
def test_bad_input(words: str, said: str, field: Path, type_in: Type) -> None:
    np.savez(field / "field.npz", X=np.zeros((4, 39)), y=np.arange(4) % 2)
    if "--adapter" in words:
        adapted(type_in)
    answer = type_in(*words.split())
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert not (field / "x").exists()
