"""What all labels say, and that it comes whole from another process."""

from __future__ import annotations

from pathlib import Path

import skip2lora as s2
from desk import NAMES
from serve.place import service, teach
from skip2lora.data.image_options import Images
from skip2lora.serve.gate import Verdict
from skip2lora.serve.study import Now, Studied, Study


def study(served: s2.Service) -> Study:
    learner = served.learner
    return Study(served._frozen, learner.labels, served._kept.reader, learner._version)


def test_a_candidate_writes_nothing_and_says_what_is_to_be_written(tmp_path: Path) -> None:
    with service(tmp_path / "store") as served:
        ids = teach(served, 60)
        studied = study(served).candidate(Now(0, 0, 0), Images(size=(4, 3)))
        assert served.versions()[-1]["number"] == 0
        assert not list((tmp_path / "store" / "versions").iterdir())
        assert studied.n_labels == 60
        assert studied.judged.adopt
        assert set(studied.held_out or ()) <= set(ids)
        folder = tmp_path / "adapter"
        folder.mkdir()
        for name, content in studied.files.items():
            (folder / name).write_bytes(content)
        adapted = s2.AdaptedModel.load(served._frozen.model, folder)
        assert adapted.images == Images(size=(4, 3))
        assert served.learn().fixed == studied.judged.fixed
        for each in studied.files:
            assert (tmp_path / "store/versions/000001" / each).is_file()


def test_labels_that_are_waited_for_are_told(tmp_path: Path) -> None:
    with service(tmp_path) as served:
        teach(served, 4)
        studied = study(served).candidate(Now(0, 0, 0), None)
    assert studied.files == {}
    assert studied.judged.reason.startswith("waiting for labels of: ")
    assert (studied.judged.n, studied.judged.adopt) == (studied.n_labels, False) == (4, False)


def test_a_contradiction_is_of_new_labels_alone(tmp_path: Path) -> None:
    with service(tmp_path, approve=True) as served:
        ids = teach(served, 60, wrong=True)
        assert served.learn().adopt
        of = study(served)
        assert of.contradiction(Now(1, 0, len(ids))) is None
        assert of.contradiction(Now(1, 0, 0)) is None  # which it has learned so
        teach(served, 20)
        reason = of.contradiction(Now(1, 0, len(ids)))
        assert reason is not None
        assert reason.startswith("20 later labels: version 0 is right where 1 is not")


def test_it_comes_whole_from_another_process() -> None:
    suspect = {"id": 3, "label": NAMES[0], "answer": NAMES[1], "label_probability": 0.25}
    files = {"a": b"\n\n{}\0", "b": b"", "c": bytes(range(256))}
    sent = Studied(9, Verdict(3, 1, 9, 0.25, True, "é\nx"), files, (suspect,), {7: "stop"}, 2)
    came = Studied.from_bytes(sent.to_bytes())
    assert came.files == files
    assert (came.judged, came.suspects, came.n_out) == (sent.judged, (suspect,), 2)
    assert came.held_out == {"7": "stop"}
    assert came.n_labels == 9
