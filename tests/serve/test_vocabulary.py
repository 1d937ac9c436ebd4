"""The names in use are those of what is served, whatever names the model has or lacks."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from desk import NAMES, blobs
from serve.place import SHIFT, field, model
from skip2lora.export.onnx import export_onnx
from skip2lora.serve.database import FILE, connect
from skip2lora.serve.service import Service
from skip2lora.serve.vocabulary import Vocabulary
from skip2lora.training.lab_set import LabSet

NUMBERS = ("0", "1", "2")
OTHERS = ("off", "on", "broken")
#: Names that labels have where the adapter is of that kind, by whether the model has names.
CALLED = {
    "none": (NUMBERS, NAMES), "plain": (NUMBERS, NAMES), "named": (OTHERS, OTHERS),
    "added name": ((*NUMBERS, "rust"), (*NAMES, "rust")),
    "named, added name": ((*OTHERS, "rust"), (*OTHERS, "rust")),
    "added number": ((*NUMBERS, "7"), (*NAMES, "7")),
    "its own": (("good", "other"), ("good", "other")),
}  # fmt: skip


@cache
def plain_model() -> s2.MLP:
    """One whose classes have numbers alone."""
    x, y = blobs(0, n_samples=300)
    return s2.pretrain(s2.MLP.create([12, 16, 16, 3], seed=0), x, y, epochs=60)


def samples(kind: str, seed: int, shift: float, more: bool) -> tuple[Any, np.ndarray]:
    """Samples of a place and their classes, 3 for an added one and 4 for one that is new there."""
    x, y = blobs(seed, n_samples=300, shift=shift)
    if "added" in kind:
        x[::5, 0] += 9
        y[::5] = 3
    if kind == "its own":
        y = (y > 0).astype(y.dtype)
    if more:
        x[1::5, 1] -= 9
        y[1::5] = 4
    return x, y


def folder_of(kind: str, base: s2.MLP, path: Path) -> Path | None:
    """An adapter that was learned at a third place."""
    if kind == "none":
        return None
    x, y = samples(kind, 3, -SHIFT, more=False)
    titles = CALLED[kind][base.class_names is not None]
    answers: Any = y if titles[0] == "0" else np.array(titles)[y]
    options: dict[str, Any] = {}
    if "named" in kind:
        options["output_names"] = OTHERS
    if kind == "added number":
        answers = np.array([*NAMES, "7"])[y] if base.class_names else np.where(y == 3, 7, y)
    if kind == "added name":
        answers = np.array(titles)[y]
    if "added" in kind:
        options["new_classes"] = True
    if kind == "its own":
        options["keep_outputs"] = False
    s2.adapt(base, x, answers, keep=False, **options).save(path)
    return path


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("more", [False, True], ids=["", "and a new class"])
@pytest.mark.parametrize("kind", CALLED)
@pytest.mark.parametrize("named", [False, True], ids=["numbers", "names"])
def test_labels_of_the_names_in_use_are_learned(
    kind: str, named: bool, more: bool, tmp_path: Path
) -> None:
    base, titles = model() if named else plain_model(), CALLED[kind][named]
    adapter = folder_of(kind, base, tmp_path / "adapter")
    x, y = samples(kind, 1, SHIFT, more)
    called = np.array([*titles, *[""] * (4 - len(titles)), "dust"])
    options: dict[str, Any] = {"learning": False, "lab_set": False}
    with Service(base, tmp_path / "store", adapter=adapter, **options) as served:
        assert served.class_names == titles
        given = served.version
        for id, name in zip(served.predict(x).ids, called[y].tolist(), strict=True):
            served.label(id, name, new=name == "dust")
        judged = served.learn()
        assert judged.adopt, judged.reason
        assert served.class_names == (*titles, *["dust"] * more)
        test, of = samples(kind, 2, SHIFT, more)
        assert np.mean(np.array(served.predict(test).names) == called[of]) > 0.95
    with Service(base, tmp_path / "store", **options) as served:
        served.adopt(given)
        assert served.class_names == titles
        served.adopt(0)
        own = {"none": titles, "its own": NAMES if named else NUMBERS}.get(kind, titles[:3])
        assert served.class_names == own
        assert set(served.predict(test).names) <= set(own)
        assert served.learn().adopt


def test_a_class_that_the_adapter_added_is_waited_for(tmp_path: Path) -> None:
    """Without a label of it, a candidate would forget what the adapter in use knows."""
    adapter = folder_of("named, added name", plain_model(), tmp_path / "adapter")
    x, names = field(n_samples=30)
    with Service(
        plain_model(), tmp_path / "store", adapter=adapter, learning=False, lab_set=False
    ) as served:
        for id, name in zip(served.predict(x).ids, names, strict=True):
            served.label(id, OTHERS[NAMES.index(name)])
        assert served.learn().reason == "waiting for labels of: rust (0 of 3)"
        with pytest.raises(s2.DataError, match="'stop' is unknown, expected one of off, on, brok"):
            served.label(1, "stop")
        served.adopt(0)
        served.label(1, "rust")  # known, whatever is in use


def test_labels_that_were_numbers_get_the_names(tmp_path: Path) -> None:
    x, names = field(n_samples=60)
    places = [NAMES.index(name) for name in names]
    options: dict[str, Any] = {"learning": False, "lab_set": False}
    with Service(plain_model(), tmp_path / "store", **options) as served:
        for id, place in zip(served.predict(x).ids, places, strict=True):
            served.label(id, str(place))
    adapter = folder_of("named", plain_model(), tmp_path / "adapter")
    with Service(plain_model(), tmp_path / "store", adapter=adapter, **options) as served:
        assert {each["answer"] for each in served.labels()} == set(OTHERS)
        assert served.learn().adopt
        assert served.class_names == OTHERS


def test_a_store_of_an_older_program_knows_what_its_adapter_calls_them(tmp_path: Path) -> None:
    adapter = folder_of("named", plain_model(), tmp_path / "adapter")
    options: dict[str, Any] = {"learning": False, "lab_set": False}
    x, names = field(n_samples=60)
    with Service(plain_model(), tmp_path / "store", adapter=adapter, **options) as served:
        for id, name in zip(served.predict(x).ids, names, strict=True):
            served.label(id, OTHERS[NAMES.index(name)])
    db = connect((tmp_path / "store" / FILE).absolute(), mode="rw")
    with db:  # as those wrote it, where numbers were asked for as well
        assert db.execute("DELETE FROM meta WHERE key = 'vocabulary'").rowcount == 1
        db.execute("UPDATE labels SET answer = '1' WHERE answer = 'on'")
    db.close()
    with Service(plain_model(), tmp_path / "store", **options) as served:
        assert served.learn().adopt
        assert {each["answer"] for each in served.labels()} == set(OTHERS)


def test_a_lab_set_of_outputs_that_are_left_out_is_refused(tmp_path: Path) -> None:
    adapter = folder_of("its own", model(), tmp_path / "adapter")
    x, y = blobs(0, n_samples=60)
    with pytest.raises(s2.ParameterError, match="leaves out the model's own classes"):
        Service(
            model(), tmp_path / "store", adapter=adapter, learning=False,
            lab_set=LabSet.of(model(), x, y, 3),
        )  # fmt: skip


def test_a_model_whose_file_numbers_its_classes_calls_them_so(tmp_path: Path) -> None:
    x, y = samples("added number", 0, 0.0, more=False)
    adapted = s2.adapt(plain_model(), x, np.where(y == 3, 7, y), new_classes=True, keep=False)
    export_onnx(
        adapted.backbone, adapted.adapters, tmp_path / "numbered.onnx",
        description=adapted.said.entries(),
    )  # fmt: skip
    numbered = s2.load(tmp_path / "numbered.onnx")
    known = Vocabulary.of_model(numbered)
    assert (known.titles, known.names) == (("0", "1", "2", "7"),) * 2
    x, y = samples("added number", 1, SHIFT, more=False)
    with Service(numbered, tmp_path / "store", learning=False, lab_set=False) as served:
        for id, place in zip(served.predict(x).ids, y.tolist(), strict=True):
            served.label(id, ("0", "1", "2", "7")[place])
        assert served.learn().adopt
        assert served.class_names == ("0", "1", "2", "7")


def test_it_is_kept_as_text() -> None:
    known = Vocabulary(("a", "ü", "7"), 2, ("a", "ü"))
    assert Vocabulary.from_text(known.to_text()) == known
    plain = Vocabulary(("0", "1"), 2, None)
    assert Vocabulary.from_text(plain.to_text()) == plain
    assert Vocabulary.of_model(model()) == Vocabulary(NAMES, 3, NAMES)
    assert Vocabulary.of_model(plain_model()) == Vocabulary(NUMBERS, 3, None)
