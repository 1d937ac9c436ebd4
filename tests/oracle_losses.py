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


LOSSES = {
    "softmax": oracle.softmax_cross_entropy,
    "sigmoid": sigmoid_cross_entropy,
    "squared": squared,
}
