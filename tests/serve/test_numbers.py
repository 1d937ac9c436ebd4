"""A service of a model of one number: labels, learning, going back, what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from serve.client import Client
from serve.place import meter, readings
from skip2lora.serve import home_assistant
from skip2lora.serve.http import application
from skip2lora.serve.limits import Limits
from skip2lora.serve.metrics import metrics
from skip2lora.serve.planned import plan_service
from skip2lora.serve.security import Policy
from skip2lora.serve.service import Service
from skip2lora.training.lab_set import LabSet
from skip2lora.training.rehearsal import lab_set_beside


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Service]:
    with Service(meter(), tmp_path / "store", learning=False, name="meter") as served:
        yield served


@pytest.fixture
def client(served: Service) -> Client:
    return Client(application(served, Policy()))


def teach(served: Service, n_labels: int, seed: int = 1, *, off: float = 0.0) -> tuple[int, ...]:
    """Predict, and label every sample, ``off`` what is right."""
    x, y = readings(seed, n_samples=n_labels)
    ids = served.predict(x).ids
    for id, number in zip(ids, y.tolist(), strict=True):
        served.label(id, number + off)
    return ids


def error(served: Service) -> float:
    x, y = readings(5)
    return float(np.abs(served.predict(x).numbers - y).mean())


def test_numbers_are_those_of_the_model_in_parts_too(served: Service) -> None:
    x, _ = readings(n_samples=300)
    answers = served.predict(x)
    np.testing.assert_allclose(answers.numbers, meter().predict(x).ravel(), rtol=1e-5, atol=1e-6)
    assert (answers.probabilities.shape, answers.outputs) == ((300, 0), ())
    assert [float(name) for name in answers.part(2, 4).names] == pytest.approx(
        answers.part(2, 4).numbers.tolist(), rel=1e-6
    )
    status = served.status()
    assert (status["task"], status["classes"], status["by_answer"]) == ("regression", [], {})
    assert status["drift"]["phase"] == "watching"


def test_it_learns_from_ten_labels_and_what_is_nearer_is_adopted(served: Service) -> None:
    before = error(served)
    teach(served, 9)
    assert served.learn().reason == "waiting for labels: 9 of 10"
    teach(served, 31, seed=2)
    verdict = served.learn()
    assert (verdict.adopt, served.version) == (True, 1)
    assert verdict.reason.startswith(f"nearer in {verdict.fixed}, farther in {verdict.broke} of 40")
    assert error(served) < 0.3 * before
    assert isinstance(served.model, s2.AdaptedModel)
    assert served.model.task == "regression"


def test_what_learns_noise_alone_is_not_adopted(served: Service) -> None:
    answers = served.predict(readings(n_samples=40)[0])
    noise = np.random.default_rng(0).normal(size=40)
    for id, number in zip(answers.ids, (answers.numbers + noise).tolist(), strict=True):
        served.label(id, number)
    assert served.learn().adopt is False
    assert served.version == 0


def test_what_it_learned_is_judged_as_held_out_later(served: Service) -> None:
    teach(served, 30)
    served.learn()
    again = served.learn()  # of the same labels: the same numbers are held out
    assert (again.fixed, again.broke, again.adopt) == (0, 0, False)


def test_later_labels_bring_the_one_before_back(served: Service) -> None:
    teach(served, 40, off=20.0)
    assert served.learn().adopt
    teach(served, 20, seed=3)
    verdict = served.learn()
    kinds = {each["kind"]: each["detail"] for each in served.events()}
    assert "20 later labels, to which version 0 is nearer in 20" in kinds["rolled back"]["reason"]
    assert served.versions()[1]["state"] == "rolled back"
    assert verdict.version == 2


def test_a_restarted_one_goes_on(tmp_path: Path) -> None:
    with Service(meter(), tmp_path, learning=False) as served:
        teach(served, 40)
        served.learn()
        expected = error(served)
    with Service(meter(), tmp_path, learning=False) as served:
        assert served.version == 1
        assert error(served) == expected


@pytest.mark.parametrize("label", [
    "a", "", None, True, [1], float("nan"), float("inf"), 1e39, 10**400, "1e999", "1_0", "NaN",
    "\u0661", "9" * 41,
])  # fmt: skip
def test_other_labels_are_refused(served: Service, label: Any) -> None:
    served.predict(readings(n_samples=1)[0])
    with pytest.raises(s2.DataError, match=r"expected a finite number such as 21\.5: correct it"):
        served.label(1, label)
    assert served.labels() == []


def test_one_number_said_in_several_ways_is_one_label(served: Service) -> None:
    served.predict(readings(n_samples=1)[0])
    for label in (2, 2.0, " 2.00", "2e0"):
        assert served.label(1, label)["contradicting"] is False
    assert served.label(1, 2.5)["contradicting"] is True
    assert served.sample(1)["label"] is None
    served.label(1, -0.0, settle=True)
    entry = served.sample(1)
    assert (entry["label"], entry["probability"], entry["margin"]) == (0.0, None, None)
    assert [each["answer"] for each in entry["labels"]] == [0.0, 2.5, 2.0, 2.0, 2.0, 2.0]
    assert served.samples()[0]["label"] == 0.0


def test_it_asks_for_those_unlike_all_that_have_a_label(tmp_path: Path) -> None:
    limits = Limits(first_batch=10, batch=4)
    with Service(meter(), tmp_path, learning=False, limits=limits) as served:
        near, _ = readings(n_samples=60)
        ids = served.predict(0.1 * near).ids
        for id in served.ask():
            served.label(id, 1.0)
        far = served.predict(near[:16] + 30).ids
        asked = served.ask()
        assert len(asked) == 4
        assert set(asked) <= set(far)
        assert not set(asked) & set(ids)


def test_over_http_answers_and_labels_are_numbers(served: Service, client: Client) -> None:
    x, y = readings(n_samples=3)
    expected = meter().predict(x).ravel().tolist()
    answer = client.post("/api/predict", {"rows": x.tolist()}).json()
    assert [each["answer"] for each in answer["samples"]] == pytest.approx(expected, rel=1e-5)
    assert set(answer["samples"][0]) == {"id", "answer"}
    labels = [{"id": 1, "label": float(y[0])}, {"id": 2, "label": "3.5"}, {"id": 3, "label": "x"}]
    taken = client.post("/api/labels", {"labels": labels}).json()
    assert taken["labelled"] == [1, 2]
    assert "expected a finite number" in taken["refused"][0]["error"]
    kept = client.get("/api/labels").json()["labels"]
    assert [each["answer"] for each in kept] == [3.5, pytest.approx(float(y[0]))]
    tensor = {"name": "X", "shape": [3, 6], "datatype": "FP32", "data": x.ravel().tolist()}
    outputs = client.post("/v2/models/meter/infer", {"inputs": [tensor]}).json()["outputs"]
    assert [(each["name"], each["datatype"], each["shape"]) for each in outputs] == [
        ("value", "FP32", [3]), ("id", "INT64", [3]),
    ]  # fmt: skip
    assert outputs[0]["data"] == pytest.approx(expected, rel=1e-5)
    said = client.get("/v2/models/meter").json()["outputs"]
    assert [each["name"] for each in said] == ["value", "id"]
    assert 'skip2lora_predictions_total{class="number"} 6.0' in metrics(served)


def test_home_assistant_has_a_measurement(served: Service) -> None:
    about = home_assistant.discovery("meter", "meter", "skip2lora/meter", served.class_names)
    assert about["cmps"]["answer"]["state_class"] == "measurement"
    assert "confidence" not in about["cmps"]


CONFIG = """<View><TimeSeries name="signal"/><Choices name="x" toName="y"/>
<Number name="litres" toName="signal" min="0"/></View>"""


def annotated(sample: int, *results: Any, action: str = "ANNOTATION_CREATED") -> dict[str, Any]:
    return {
        "action": action, "task": {"data": {"skip2lora": sample}},
        "annotation": {"result": [{"type": "number", "value": value} for value in results]},
    }  # fmt: skip


def test_label_studio_shows_numbers_and_gives_them(served: Service, client: Client) -> None:
    served.predict(readings(n_samples=30)[0])
    tasks = client.get("/api/label-studio/tasks").json()
    answer = client.post("/predict", {"tasks": tasks, "label_config": CONFIG}).json()["results"][0]
    id = tasks[0]["data"]["skip2lora"]
    number = served.sample(id)["answer"]
    assert tasks[0]["data"]["answer"] == number
    assert answer == {
        "model_version": "meter 0", "score": None,
        "result": [{"from_name": "litres", "to_name": "signal", "type": "number",
                    "value": {"number": number}}],
    }  # fmt: skip
    assert client.post("/webhook", annotated(id, {"number": -3})).json() == {"labelled": 1}
    assert served.sample(id)["label"] == -3.0
    changed = annotated(id, {"number": 21.5}, action="ANNOTATION_UPDATED")
    assert client.post("/webhook", changed).json() == {"labelled": 1}
    assert served.sample(id)["label"] == 21.5


@pytest.mark.parametrize("results", [
    (), ({"number": None},), ({"number": True},), ({"number": "3"},), ({"number": [1, 2]},),
    ({"number": 1}, {"number": 2}), ({"choices": ["3"]},), ({"number": 1e300},),
    ({"number": 1}, {"number": "2"}),
])  # fmt: skip
def test_what_is_not_one_number_of_label_studio_labels_nothing(
    served: Service, client: Client, results: tuple[Any, ...]
) -> None:
    served.predict(readings(n_samples=3)[0])
    answer = client.post("/webhook", annotated(1, *results))
    assert (answer.status, answer.json()["labelled"]) == (200, 0)
    assert answer.json()["reason"]
    assert served.labels() == []


def at_home(served: Service) -> float:
    x, y = readings(6, home=True)
    return float(np.abs(served.predict(x).numbers - y).mean())


def test_rows_of_the_old_place_are_learned_beside_labels(tmp_path: Path) -> None:
    x, y = readings(0, n_samples=300, home=True)
    file = tmp_path / "meter.safetensors"
    meter().save(file)
    LabSet.of(meter(), x, y, 30).save(lab_set_beside(file))
    errors = {}
    for name, lab in (("none", False), ("beside", None), ("given", (x[:30], y[:30]))):
        with Service(s2.load(file), tmp_path / name, learning=False, lab_set=lab) as served:
            teach(served, 60)
            judged = served.learn()
            assert judged.adopt or "lab set" in judged.reason, judged.reason
            served.adopt(judged.version)  # whatever the guard says
            errors[name] = at_home(served)
            assert judged.n == 60
    assert errors["beside"] < 0.7 * errors["none"]
    assert errors["given"] < 0.7 * errors["none"]


def test_a_candidate_that_loses_the_lab_set_is_turned_down(tmp_path: Path) -> None:
    """Labels that are all off in the same way look right to every other test."""
    x, y = readings(0, n_samples=300, home=True)
    for lab, adopt in ((LabSet.of(meter(), x, y, 30), False), (False, True)):
        with Service(meter(), tmp_path / str(adopt), learning=False, lab_set=lab) as served:
            for id, number in zip(served.predict(x[:60]).ids, y[:60].tolist(), strict=True):
                served.label(id, number + 9)
            judged = served.learn()
            assert judged.adopt == adopt, judged.reason
            assert adopt or "but the mean error of the lab set grows from 0." in judged.reason


def test_a_lab_set_of_classes_is_refused(tmp_path: Path) -> None:
    x, y = readings(0, n_samples=60, home=True)
    lab = LabSet.of(meter(), x, (y > 0).astype(int), 3, task="classification")
    with pytest.raises(s2.ParameterError, match="has answers for classification"):
        Service(meter(), tmp_path / "a", learning=False, lab_set=lab)
    with pytest.raises(s2.ModelError, match="is of the model sha256:"):
        Service(meter(), tmp_path / "a", lab_set=LabSet.of(meter(1), x, y, 3))
    assert not (tmp_path / "a").exists()


@pytest.mark.usefixtures("unmeasured")
def test_a_plan_is_of_numbers_too() -> None:
    x, y = readings(0, n_samples=300, home=True)
    few = Limits(labelled=60)
    planned = plan_service(meter(), few)
    beside = plan_service(meter(), few, lab_set=(x, y))
    assert (planned.n_lab_rows, beside.n_lab_rows) == (0, 300)
    row = 4 * (6 + 16 + 16 + 1)
    assert beside.memory.learning_bytes - planned.memory.learning_bytes > 300 * row
    memory = planned.memory
    beside_processes = memory.peak_bytes - memory.process_bytes - memory.learner_bytes
    assert 0 < beside_processes < 64 << 20


def test_what_is_not_served_is_refused(tmp_path: Path) -> None:
    two = s2.MLP.create([6, 8, 2], seed=0, task="regression")
    for call in (lambda: Service(two, tmp_path / "a"), lambda: plan_service(two, Limits())):
        with pytest.raises(s2.ParameterError, match="for regression of 2 outputs, expected one of"):
            call()
    assert not (tmp_path / "a").exists()
