"""Losses beside softmax in float64 NumPy, with their gradients; see oracle.py. All are means over
the samples of the sum over the outputs."""

import numpy as np

import oracle


def sigmoid_cross_entropy(logits, targets):
    """Binary cross entropy of sigmoid(logits); targets (batch, n_outputs) from 0 to 1."""
    logits, targets = oracle.wide(logits, targets)
    loss = np.logaddexp(0, logits) - logits * targets
    return loss.sum() / len(logits), (1 / (1 + np.exp(-logits)) - targets) / len(logits)


def squared(outputs, targets):
    """Half the squared error."""
    outputs, targets = oracle.wide(outputs, targets)
    off = outputs - targets
    return 0.5 * (off**2).sum() / len(outputs), off / len(outputs)


def weighted(mean_loss, logits, answers, weight):
    """Of each sample by itself, times its weight; then their sum over their number."""
    alone = [mean_loss(logits[at : at + 1], answers[at : at + 1]) for at in range(len(weight))]
    (weight,) = oracle.wide(weight)
    losses, gradients = (np.array(of) for of in zip(*alone, strict=True))
    count = len(weight)
    return weight @ losses / count, gradients[:, 0] * weight[:, None] / count


LOSSES = {
    "softmax": oracle.softmax_cross_entropy,
    "sigmoid": sigmoid_cross_entropy,
    "squared": squared,
}
