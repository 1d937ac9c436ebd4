"""Tasks with a change of surroundings: what a model learned first is not what it meets later.

Each module makes one task and returns a :class:`Split`: ``fan`` (recorded cooling fans) and
``simulated`` (a seeded simulation of such recordings, for trying things out without data).
"""

from __future__ import annotations

from typing import NamedTuple

from skip2lora.data.samples import LabelledSamples

__all__ = ["Split"]


class Split(NamedTuple):
    """The three parts of a task; they unpack as ``pretrain, finetune, test``.

    ``pretrain`` comes from the first surroundings; ``finetune`` and ``test`` from the new ones,
    never from the same recording or person part, so that the test is honest.
    """

    pretrain: LabelledSamples
    finetune: LabelledSamples
    test: LabelledSamples
