from types import SimpleNamespace

import pytest

from serve.place import field, service, teach
from skip2lora.serve.metrics import MOST_CLASSES, _capped, metrics

parser = pytest.importorskip("prometheus_client.parser")


def values(served):
    """What Prometheus reads: the value of each name with its labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in parser.text_string_to_metric_families(metrics(served))
        for sample in family.samples
    }


def test_prometheus_reads_what_the_service_counts(tmp_path):
    with service(tmp_path / "store") as served:
        before = values(served)
        assert before["skip2lora_adapter_version",] == 0
        assert not [name for name in before if name[0] == "skip2lora_prediction_seconds"]
        names = served.predict(field(n_samples=20)[0]).names
        now = values(served)
        for name in set(names):
            assert now["skip2lora_predictions_total", name] == names.count(name)
        assert now["skip2lora_drift_alarm",] == 0
        assert now["skip2lora_drift_statistic",] >= 0
        assert now["skip2lora_learning_paused",] == 0
        assert (
            0
            < now["skip2lora_prediction_seconds", "0.5"]
            <= now["skip2lora_prediction_seconds", "0.99"]
        )
        teach(served, 60)
        served.learn()
        then = values(served)
        assert then["skip2lora_adapter_version",] == 1
        assert then["skip2lora_adaptations_total", "adopted"] == 1
        assert then["skip2lora_samples", "labelled"] == 60
        assert then["skip2lora_adaptation_seconds",] > 0


def test_classes_are_told_apart_up_to_a_limit():
    counts = {f"c{at}": at for at in range(MOST_CLASSES + 3)}
    capped = _capped(counts)
    assert len(capped) == MOST_CLASSES + 1
    assert capped["(others)"] == 0 + 1 + 2
    assert sum(capped.values()) == sum(counts.values())
    assert _capped({"a": 1}) == {"a": 1}


def test_every_count_has_its_own_metric():
    """What is not known has none."""
    status = {
        "task": "classification",
        "by_answer": {"a": 3, "b": 4}, "n_samples": 5, "n_labels": 6, "n_asked": 7,
        "n_adopted": 8, "n_refused": 9, "n_rolled_back": 10, "n_alarms": 11,
        "drift": {"statistic": 0.5, "alarm": True, "novel": 0.25}, "paused": "a reason",
        "last_learn_ms": 1500, "version": 12, "latency_ms": {"median": 20, "p99": 30},
    }  # fmt: skip
    assert values(SimpleNamespace(status=lambda: status)) == {
        ("skip2lora_predictions_total", "a"): 3, ("skip2lora_predictions_total", "b"): 4,
        ("skip2lora_samples", "kept"): 5, ("skip2lora_samples", "labelled"): 6,
        ("skip2lora_samples", "asked"): 7, ("skip2lora_adaptations_total", "adopted"): 8,
        ("skip2lora_adaptations_total", "refused"): 9,
        ("skip2lora_adaptations_total", "rolled_back"): 10,
        ("skip2lora_drift_alarms_total",): 11, ("skip2lora_drift_statistic",): 0.5,
        ("skip2lora_drift_alarm",): 1, ("skip2lora_novel_ratio",): 0.25,
        ("skip2lora_learning_paused",): 1, ("skip2lora_adaptation_seconds",): 1.5,
        ("skip2lora_adapter_version",): 12, ("skip2lora_prediction_seconds", "0.5"): 0.02,
        ("skip2lora_prediction_seconds", "0.99"): 0.03,
    }  # fmt: skip
    status["drift"] = {"statistic": None, "alarm": False, "novel": None}
    status |= {"paused": None, "last_learn_ms": None, "latency_ms": {"median": None, "p99": None}}
    rest = values(SimpleNamespace(status=lambda: status))
    assert (rest["skip2lora_drift_alarm",], rest["skip2lora_learning_paused",]) == (0, 0)
    gone = {"drift_statistic", "novel_ratio", "adaptation_seconds", "prediction_seconds"}
    assert not {name[0].removeprefix("skip2lora_") for name in rest} & gone
