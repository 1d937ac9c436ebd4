"""How much a service keeps and does: every limit that it has, in numbers and bytes."""

from __future__ import annotations

from dataclasses import dataclass, fields

from skip2lora.arrays import whole
from skip2lora.serve.drift import LEAST


@dataclass(frozen=True)
class Limits:
    """What bounds the memory, the disk and the work of a service.

    Of samples without a label at most ``unlabelled`` are kept, in ``unlabelled_bytes``: the newest
    half, and of the others those that the model is least sure of. Of samples with one at most
    ``labelled``, the newest. Of predicted samples ``per_second`` are kept in the mean, so that a
    fast stream does not wear out a card, and ``pending`` at once, in ``pending_bytes``, which wait
    to be written. What a sample is made of is kept beside its row up to ``sample_bytes``.

    ``first_batch`` samples are asked for first and ``batch`` later, chosen among ``candidates``
    (``candidates_bytes``). ``versions`` adapters are kept, and the newest ``events``.
    Of versions that were never in use the newest ``records`` are remembered, or ``versions`` where
    that is more; what was in use is remembered for good.
    ``learn`` samples, 200 or more, say what is normal: they should cover all that the place does.
    """

    unlabelled: int = 2_000
    unlabelled_bytes: int = 64 << 20
    labelled: int = 10_000
    per_second: int = 50
    pending: int = 4_096
    pending_bytes: int = 16 << 20
    sample_bytes: int = 1 << 20
    first_batch: int = 20
    batch: int = 10
    candidates: int = 400
    candidates_bytes: int = 16 << 20
    versions: int = 10
    records: int = 200
    events: int = 10_000
    learn: int = 300

    def __post_init__(self) -> None:
        """Check each.

        Raises:
            ParameterError: one is no whole number from 1, or ``learn`` below 200.
        """
        for each in fields(self):
            least = LEAST if each.name == "learn" else 1
            whole(each.name, getattr(self, each.name), least)
