"""What is listed is what was predicted and labelled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import skip2lora as s2
from serve.place import field, service


def test_samples_are_listed_by_state_and_label(tmp_path: Path) -> None:
    x, _ = field(n_samples=9)
    with service(tmp_path) as served:
        served.predict(x)
        served.label(2, "stop")
        served.label(3, "normal")
        served.label(3, "stop", source="other")
        served.label(4, "normal")
        asked = served.ask(2)

        def ids(**options: object) -> list[int]:
            return [each["id"] for each in served.samples(**options)]  # type: ignore[arg-type]

        assert ids() == list(range(9, 0, -1))
        assert ids(limit=2) == [9, 8]
        assert ids(before=3) == [2, 1]
        assert ids(state="labelled") == [4, 3, 2]
        assert ids(state="unlabelled", limit=3) == [9, 8, 7]
        assert ids(state="contradicting") == [3]
        assert ids(label="stop") == [3, 2]
        assert ids(state="asked") == sorted(asked, reverse=True)
        with pytest.raises(s2.ParameterError, match="state is 'gone'"):
            served.samples("gone")
        of = served.sample(3)
        assert of["label"] is None
        assert of["contradicting"]
        assert [each["answer"] for each in of["labels"]] == ["stop", "normal"]
        served.label(3, "stop", settle=True)
        of = served.sample(3)
        assert of["label"] == "stop"
        assert not of["contradicting"]
        assert len(of["labels"]) == 3
        assert [each["sample"] for each in served.labels(limit=2)] == [3, 4]
        json.dumps([served.samples(), served.labels(), served.status(), served.versions()])
        json.dumps([served.events(), of | {"x": None}])
