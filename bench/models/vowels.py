"""A small CNN that tells five speakers by a vowel; new classes are four other speakers.

JapaneseVowels: 12 cepstrum coefficients, 7 to 29 frames an utterance.
"""

from __future__ import annotations

from models import About, Job, of_each, series

NAME, FRAMES, N_FIELD = "JapaneseVowels", 29, 10
ABOUT = About(
    "vowels", "time series",
    "3 convolutions, trained here to tell 5 speakers of the set JapaneseVowels (PyTorch)",
    "4 new classes instead: its other speakers, 10 utterances each of its training part; the tests "
    "are its test part",
)  # fmt: skip


def make(seed: int) -> Job:
    net = series.network(NAME, ("TRAIN",), FRAMES, 3, 1)
    x, y = series.strangers(NAME, "TRAIN", FRAMES)
    field, _ = of_each(y, N_FIELD, 0, seed)
    return Job(net, x[field], y[field], *series.strangers(NAME, "TEST", FRAMES), keep_outputs=False)
