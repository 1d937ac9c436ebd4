"""What the service counts, as Prometheus reads it (text format 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from skip2lora.tasks.task import REGRESSION

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from skip2lora.serve.service import Service

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: Classes that are told apart; answers of all others are counted as one.
MOST_CLASSES = 50
_OTHERS = "(others)"
_STATES = {"samples": "kept", "labels": "labelled", "asked": "asked"}


def metrics(service: Service) -> str:
    """All metrics, a line each."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(service.status()))
    return str(generate_latest(registry), "utf-8")


class _Collector:
    """Makes metrics of one status."""

    def __init__(self, status: dict[str, Any]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Each metric with its values."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        status = self._status
        drift = status["drift"]
        counts = CounterMetricFamily(
            "skip2lora_predictions", "Samples predicted, by their answer", labels=["class"]
        )
        if status["task"] == REGRESSION.name:
            counts.add_metric(["number"], status["n_predicted"])
        for name, count in _capped(status["by_answer"]).items():
            counts.add_metric([name], count)
        yield counts
        samples = GaugeMetricFamily("skip2lora_samples", "Samples in the store", labels=["state"])
        for state in ("samples", "labels", "asked"):
            samples.add_metric([_STATES[state]], status[f"n_{state}"])
        yield samples
        adapted = CounterMetricFamily(
            "skip2lora_adaptations", "Adaptations, by what came of them", labels=["result"]
        )
        for result in ("adopted", "refused", "rolled_back"):
            adapted.add_metric([result], status[f"n_{result}"])
        yield adapted
        yield CounterMetricFamily(
            "skip2lora_drift_alarms", "Alarms that the data changed", value=status["n_alarms"]
        )
        gauges = {
            "skip2lora_drift_statistic": ("Evidence that the data changed", drift["statistic"]),
            "skip2lora_drift_alarm": ("1 where the data changed", int(drift["alarm"])),
            "skip2lora_novel_ratio": ("Share of late samples that are novel", drift["novel"]),
            "skip2lora_learning_paused": ("1 where learning pauses", int(bool(status["paused"]))),
            "skip2lora_adaptation_seconds": (
                "Time of the last adaptation", _seconds(status["last_learn_ms"]),
            ),
            "skip2lora_adapter_version": ("The version in use; 0 is the base", status["version"]),
        }  # fmt: skip
        for name, (text, value) in gauges.items():
            if value is not None:
                yield GaugeMetricFamily(name, text, value=float(value))
        latency = GaugeMetricFamily(
            "skip2lora_prediction_seconds",
            "Time of a late call, in the service",
            labels=["quantile"],
        )
        for quantile, key in (("0.5", "median"), ("0.99", "p99")):
            seconds = _seconds(status["latency_ms"][key])
            if seconds is not None:
                latency.add_metric([quantile], seconds)
        yield latency


def _capped(by_answer: dict[str, int]) -> dict[str, int]:
    """The classes answered most often, and all others as one."""
    ranked = sorted(by_answer.items(), key=lambda of: (-of[1], of[0]))
    capped = dict(ranked[:MOST_CLASSES])
    if len(ranked) > MOST_CLASSES:
        capped[_OTHERS] = sum(count for _, count in ranked[MOST_CLASSES:])
    return capped


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1000
