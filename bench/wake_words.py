"""A shipped wake word for twelve speakers that it was not made for: synthetic ones, a stand-in.

    apt-get install espeak-ng flite
    python bench/models/fetch.py openwakeword
    python bench/wake_words.py

openWakeWord's "alexa" learns 10 times the word and 30 other phrases of each speaker (espeak-ng and
flite, at other pitches and speeds), and is tested on 30 and 60 others: other phrases, noise behind.
Beside it stand the model as shipped, and a new head on what it reads, as its own verifier is.
Needs openwakeword, for its own code: what is exported is loaded by it, and says the same.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from openwakeword.model import Model
from openwakeword.utils import AudioFeatures
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skip2lora as s2
from harness import environment
from models import package
from skip2lora.export.onnx import export_onnx

RATE, SAMPLES, FALSE = 16_000, 32_000, 0.03
ESPEAK = (
    "en-us+m3", "en-us+f2", "en-gb+m1", "en-gb+f4", "en-gb-scotland+m2", "en-gb-x-rp+f1",
    "en-gb-x-gbclan+m4", "en-029+f3", "de+m5", "fr+f5",
)  # fmt: skip
FLITE = ("rms", "slt")
SPEAKERS = (*(("espeak-ng", name) for name in ESPEAK), *(("flite", name) for name in FLITE))
FIELD = (
    "turn on the light", "what time is it", "play some music", "good morning", "a lexicon",
    "set a timer", "how is the weather", "open the door", "call my mother", "stop that",
    "election day", "I like tea", "see you later", "the legs are", "next song",
    "where is the car", "volume up", "thank you", "it is cold", "read the news",
    "a taxi please", "buy some milk", "who is there", "relax a bit", "close the window",
    "tell me more", "are you sure", "nice to meet you", "I lost a key", "dinner is ready",
)  # fmt: skip
TEST = (
    "switch off the heater", "which day is today", "find my phone", "good evening", "a lecture",
    "wake me at seven", "will it rain", "lock the gate", "write a letter", "be quiet",
    "all exits are closed", "coffee is ready", "come back soon", "I left a case", "one more time",
    "feed the cat", "turn it down", "you are welcome", "what a day", "show the map",
    "a relay race", "bread and butter", "who said that", "take a break", "clean the table",
    "say it again", "never mind", "my name is Max", "a letter came", "lunch is over",
    "elect a mayor", "the text is long", "a lesson", "alas he left", "excel at it",
    "six o'clock", "leave it there", "an elk ran", "unlock it", "a lake",
    "how far is it", "I am hungry", "two tickets", "go left here", "the sun is out",
    "ask her again", "an apple a day", "wash the car", "run a bath", "mix the dough",
    "sit down", "look at this", "pass the salt", "sing a song", "count to ten",
    "paint the wall", "fix the bike", "draw a line", "pack the bag", "cut the grass",
)  # fmt: skip


def spoken(speaker: tuple[str, str], text: str, random: np.random.Generator, folder: Path) -> Any:
    """Two seconds of int16 at 16 kHz, at the end of which the text ends; noise behind it."""
    program, voice = speaker
    file, speed = folder / "said.wav", random.uniform(0.8, 1.25)
    if program == "flite":
        stretch = f"duration_stretch={1 / speed:.3f}"
        words = ["flite", "-voice", voice, "--setf", stretch, "-t", text, "-o", str(file)]
    else:
        pitch = str(random.integers(35, 66))
        rate = str(round(160 * speed))
        words = ["espeak-ng", "-v", voice, "-p", pitch, "-s", rate, "-w", str(file), text]
    subprocess.run(words, check=True, capture_output=True)
    sound, rate_of = soundfile.read(file, dtype="float32")
    sound = soxr.resample(sound, rate_of, RATE)
    loud = np.flatnonzero(np.abs(sound) > 0.01)
    sound = sound[loud[0] : loud[-1] + 1][-SAMPLES:] / np.abs(sound).max()
    late = int(random.integers(0, 2400))  # up to 0.15 s after it
    clip = random.normal(scale=random.uniform(0.001, 0.02), size=SAMPLES + late)
    clip[SAMPLES - len(sound) : SAMPLES] += random.uniform(0.2, 0.8) * sound
    return (32_767 * np.clip(clip[-SAMPLES:], -1, 1)).astype(np.int16)


def clips(
    speaker: tuple[str, str], n_word: int, others: Sequence[str], seed: int, folder: Path
) -> tuple[Any, Any]:
    """Sounds, (n, 32000), and whether each is the word."""
    random = np.random.default_rng(seed)
    texts = ["Alexa"] * n_word + list(others)
    sounds = np.stack([spoken(speaker, text, random, folder) for text in texts])
    return sounds, np.arange(len(texts)) < n_word


def recall_at(scores: Any, word: Any, false: float) -> float:
    """Recall where this share of the others is accepted, at most."""
    others = np.sort(scores[~word])[::-1]
    least = others[int(false * len(others))]
    return float((scores[word] > least).mean())


def of_speaker(speaker: tuple[str, str], seed: int, folder: Path) -> dict[str, Any]:
    (file,) = package("openwakeword").rglob("alexa_v0.1.onnx")
    embed = AudioFeatures()
    sounds, word = clips(speaker, 10, FIELD, 2 * seed, folder)
    other_sounds, other_word = clips(speaker, 30, TEST, 2 * seed + 1, folder)
    x, test = (embed.embed_clips(of)[:, -16:] for of in (sounds, other_sounds))
    model = s2.load(file)
    began = time.perf_counter()
    adapted = s2.adapt(model, x, word[:, None].astype(np.float32), task="multi-label")
    took = 1e3 * (time.perf_counter() - began)
    scaled = make_pipeline(StandardScaler(), LogisticRegression(C=0.001, max_iter=2000))
    scaled.fit(x.reshape(len(x), -1), word)
    flat = test.reshape(len(test), -1)
    scores = {
        "as shipped": model.predict_proba(test)[:, 0],
        "head": scaled.predict_proba(flat)[:, 1],
        "skip2lora": adapted.predict_proba(test)[:, 0],
    }
    out = folder / "alexa_home.onnx"
    export_onnx(adapted.backbone, adapted.adapters, out)
    heard = Model([str(out)]).models["alexa_home"]
    (said,) = heard.run(None, {heard.get_inputs()[0].name: test[:1]})
    return {
        "speaker": " ".join(speaker), "ms": took,
        "exported": float(np.abs(said[0, 0] - scores["skip2lora"][0])),
        "scores": {name: of.tolist() for name, of in scores.items()}, "word": other_word.tolist(),
    }  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        done = [of_speaker(each, at, Path(folder)) for at, each in enumerate(SPEAKERS)]
    word = np.concatenate([each["word"] for each in done])
    measured = {}
    for name in done[0]["scores"]:
        scores = np.concatenate([each["scores"][name] for each in done])
        own = [
            recall_at(np.array(each["scores"][name]), np.array(each["word"]), FALSE)
            for each in done
        ]
        measured[name] = {
            "recall_at_3_percent": recall_at(scores, word, FALSE),
            "mean_of_speakers": float(np.mean(own)), "least_of_speakers": min(own),
            "recall": float((scores[word] > 0.5).mean()),
            "false_accepts": float((scores[~word] > 0.5).mean()),
            "auroc": float(roc_auc_score(word, scores)),
        }  # fmt: skip
        print(name, {key: round(value, 4) for key, value in measured[name].items()})
    milliseconds = [each["ms"] for each in done]
    off = max(each["exported"] for each in done)
    print(f"adapting {np.median(milliseconds):.1f} ms, exported within {off:.2g}")
    print(json.dumps({"measured": measured, "ms": milliseconds, "environment": environment()}))


if __name__ == "__main__":
    main()
