"""Whether a candidate is proved better: paired answers, the exact test of McNemar (1947), a guard.

Both answer the same labelled samples, the candidate each without having learned it. Where both are
right, or both wrong, nothing is said of them; what is fixed and what is broken would be equally
likely if the candidate were no better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Of a chance finding: for the first adapter, and for one beside labels that had adopted another.
FIRST, LATER = 0.05, 0.2
#: Of earlier labels, and of the lab set, so many more may be broken than fixed: this share, or one.
GUARD = 0.02


@dataclass(frozen=True)
class Verdict:
    """Of ``n`` labelled samples a candidate ``fixed`` some and ``broke`` others.

    ``p`` is the chance of so many fixed, or more, if it were no better. ``adopt`` says whether it
    is proved better, ``reason`` why, for a person. ``version`` is its number, None where none was
    made.
    """

    fixed: int
    broke: int
    n: int
    p: float
    adopt: bool
    reason: str
    version: int | None = None


def mcnemar(fixed: int, broke: int) -> float:
    """The one-sided exact p-value: the chance of ``fixed`` or more of all that differ."""
    n = fixed + broke
    ways = sum(math.comb(n, at) for at in range(fixed, n + 1))
    return float(ways / 2**n)


def verdict(
    labels: NDArray[Any],
    now: NDArray[Any],
    then: NDArray[Any],
    *,
    old: NDArray[np.bool_] | None = None,
    first: bool = True,
) -> Verdict:
    """Compare answers, (n,) each, as places of outputs: those in use ``now``, and ``then``.

    ``then`` are held-out answers of the candidate. ``first`` says that no adapter is in use yet.
    Else ``old``, (n,), marks samples whose labels had a part in adopting the one in use: of them
    not more than 2 %, or one, may be lost.
    """
    right_now, right_then = now == labels, then == labels
    better, worse = right_then & ~right_now, right_now & ~right_then
    fixed, broke = int(better.sum()), int(worse.sum())
    p, limit = mcnemar(fixed, broke), FIRST if first else LATER
    counts = f"fixed {fixed}, broke {broke} of {len(labels)}, p = {p:.2g}"
    if p >= limit:
        reason = f"{counts}: not proved better (p below {limit:g} is needed): give more labels"
        return Verdict(fixed, broke, len(labels), p, False, reason)
    if not first and old is not None:
        loss = _loss(right_now[old], right_then[old], "earlier labels")
        if loss is not None:
            reason = f"{counts}: {loss}: check whether labels contradict each other"
            return Verdict(fixed, broke, len(labels), p, False, reason)
    return Verdict(fixed, broke, len(labels), p, True, f"{counts}: proved better")


def kept_lab_set(
    judged: Verdict, labels: NDArray[Any], now: NDArray[Any], then: NDArray[Any]
) -> Verdict:
    """``judged``, turned down where too much of the lab set is lost: answers to it, (n,) each.

    ``then`` are those of the candidate as it would be used. It has learned these samples, so what
    is lost all the same is lost.
    """
    loss = _loss(now == labels, then == labels, "samples of the lab set")
    if loss is None:
        return judged
    return replace(judged, adopt=False, reason=f"{judged.reason}, but {loss}: check the labels")


def _loss(right_now: NDArray[np.bool_], right_then: NDArray[np.bool_], what: str) -> str | None:
    """How many right answers of (n,) to ``what`` are lost, net, where it is too many; else None."""
    lost, n = int(right_now.sum()) - int(right_then.sum()), len(right_now)
    allowed = max(1, int(GUARD * n))
    return f"loses {lost} of {n} {what} (at most {allowed})" if lost > allowed else None
