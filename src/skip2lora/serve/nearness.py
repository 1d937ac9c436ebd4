"""Whether a candidate's numbers are proved nearer: paired errors, the exact sign test, two guards.

Of each labelled number the one in use and the candidate are some way off. If the candidate were no
better, it would be nearer as often as farther (Dixon and Mood, 1946): the test asks for no shape of
the errors. It sees how often, not how far, so the mean error must not grow either.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.serve.gate import FIRST, GUARD, LATER, Verdict, mcnemar


def verdict(
    labels: NDArray[Any],
    now: NDArray[Any],
    then: NDArray[Any],
    *,
    old: NDArray[np.bool_] | None = None,
    first: bool = True,
) -> Verdict:
    """Compare numbers, (n,) each: those in use ``now``, and ``then``, held out of the candidate.

    ``fixed`` of the verdict are those to which it is nearer, ``broke`` those from which it is
    farther. ``first`` and ``old`` are as of :func:`skip2lora.serve.gate.verdict`: of the old ones
    not more than 2 %, or one, may be farther net.
    """
    errors = np.abs(now - labels), np.abs(then - labels)
    nearer, farther = errors[1] < errors[0], errors[1] > errors[0]
    n_nearer, n_farther = int(nearer.sum()), int(farther.sum())
    p, limit, n = mcnemar(n_nearer, n_farther), FIRST if first else LATER, len(labels)
    counts = f"nearer in {n_nearer}, farther in {n_farther} of {n}, {_means(*errors)}, p = {p:.2g}"
    trouble = None
    if p >= limit:
        trouble = f"not proved better (p below {limit:g} is needed): give more labels"
    elif n and errors[1].mean() > errors[0].mean():
        trouble = "the mean error grows: check the labels that are far off"
    elif not first and old is not None:
        lost, allowed = int(farther[old].sum() - nearer[old].sum()), _allowed(int(old.sum()))
        if lost > allowed:
            trouble = (
                f"farther in {lost} more of {int(old.sum())} earlier labels (at most {allowed}): "
                "check whether labels contradict each other"
            )
    reason = f"{counts}: {trouble or 'proved better'}"
    return Verdict(n_nearer, n_farther, n, p, trouble is None, reason)


def kept_lab_set(
    judged: Verdict, labels: NDArray[Any], now: NDArray[Any], then: NDArray[Any]
) -> Verdict:
    """``judged``, turned down where too much of the lab set is lost: numbers of it, (n,) each.

    Too much is a mean error that grows by more than 2 % of what the labels differ from their median
    in the mean. ``then`` are those of the candidate as it would be used, which learned them.
    """
    errors = np.abs(now - labels).mean(), np.abs(then - labels).mean()
    spread = np.abs(labels - np.median(labels)).mean()
    if errors[1] - errors[0] <= GUARD * spread:
        return judged
    loss = f"the mean error of the lab set grows from {errors[0]:.3g} to {errors[1]:.3g}"
    allowed = f"at most {GUARD:.0%} of what its labels differ, {GUARD * spread:.2g}"
    return replace(
        judged,
        adopt=False,
        reason=f"{judged.reason}, but {loss} ({allowed}): adopt it by hand, or check the labels",
    )


def contradicted(labels: NDArray[Any], now: NDArray[Any], before: NDArray[Any]) -> tuple[bool, str]:
    """Whether numbers ``before`` are proved nearer to labels than those ``now``, and how."""
    judged = verdict(labels, now, before)
    text = f"nearer in {judged.fixed}, farther in {judged.broke} of {judged.n}"
    means = _means(np.abs(now - labels), np.abs(before - labels))
    return judged.adopt, f"{text}, {means}, p = {judged.p:.2g}"


def _allowed(n: int) -> int:
    return max(1, int(GUARD * n))


def _means(now: NDArray[Any], then: NDArray[Any]) -> str:
    """The mean absolute errors of both."""
    if not len(now):
        return "no error known"
    return f"mean error {now.mean():.3g} to {then.mean():.3g}"
