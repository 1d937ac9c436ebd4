"""How to train: options as they are passed, checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass

from skip2lora import _core
from skip2lora.checks import choice, real, whole
from skip2lora.errors import DataError, ParameterError
from skip2lora.methods import Method

DEFAULT_BATCH_SIZE = 20
SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True)
class Optimizer:
    """One row of numbers for the rule that the core executes; ``beta1`` is the momentum."""

    rule: int
    beta1: float = 0.0
    beta2: float = 0.0
    decoupled: bool = False
    weight_decay: float = 0.0


#: The defaults of PyTorch, but for momentum, which has none there.
OPTIMIZERS = {
    "sgd": Optimizer(_core.SGD),
    "momentum": Optimizer(_core.MOMENTUM, beta1=0.9),
    "adam": Optimizer(_core.ADAM, beta1=0.9, beta2=0.999),
    "adamw": Optimizer(_core.ADAM, beta1=0.9, beta2=0.999, decoupled=True, weight_decay=0.01),
}
_EPS = 1e-8


@dataclass(frozen=True, kw_only=True)
class Options:
    """Checked options of one training; see :func:`check_options`.

    ``validation`` is the share of the samples that is held out to choose the epoch; training stops
    when ``patience`` epochs brought nothing better.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    optimizer: str = "sgd"
    weight_decay: float = 0.0
    schedule: str = "constant"
    validation: float = 0.0
    patience: int | None = None

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * epoch / self.epochs))

    def core_optimizer(self) -> _core.Optimizer:
        """The optimiser as the core takes it."""
        of = OPTIMIZERS[self.optimizer]
        return _core.Optimizer(
            of.rule, of.beta1, of.beta2, _EPS, weight_decay=self.weight_decay,
            decoupled=of.decoupled,
        )  # fmt: skip


def check_options(
    n_samples: int,
    method: Method,
    *,
    epochs: int,
    batch_size: int | None,
    learning_rate: float,
    seed: int,
    optimizer: str = "sgd",
    weight_decay: float | None = None,
    schedule: str = "constant",
    validation: float = 0.0,
    patience: int | None = None,
) -> Options:
    """Options in range for ``n_samples`` samples.

    ``weight_decay`` None is the optimiser's own: 0.01 for adamw, else 0.

    Raises:
        ParameterError: one is not.
        DataError: too few samples for the statistics of a batch, or to hold some out.
    """
    share = real("validation", validation, 0.0, 0.9, "from 0 to 0.9")
    n_trained = n_samples - n_validation(n_samples, share)
    least = 2 if method.batch_statistics else 1
    if share > 0 and not 0 < n_trained < n_samples:
        raise DataError(
            f"got {n_samples} samples, validation {share:g} holds out {n_samples - n_trained} of "
            "them, expected at least 1 to train and 1 to validate: collect more"
        )
    if n_trained < least:
        raise DataError(
            f"got {n_trained} sample{'s' * (n_trained != 1)}, {method.name} needs at least {least} "
            "for the statistics of a batch: collect more, or adapt with skip2-lora"
        )
    if patience is not None and not share:
        raise ParameterError(f"patience is {patience} without validation: set validation to 0.2")
    chosen = OPTIMIZERS[choice("optimizer", optimizer, tuple(OPTIMIZERS))]
    return Options(
        epochs=whole("epochs", epochs, 1),
        batch_size=_batch_size(batch_size, least, n_trained),
        learning_rate=real("learning_rate", learning_rate, 1e-30, 3e38, "above 0 (1e-30 to 3e38)"),
        seed=whole("seed", seed, 0, (1 << 64) - 1),
        optimizer=optimizer,
        weight_decay=chosen.weight_decay
        if weight_decay is None
        else real("weight_decay", weight_decay, 0.0, 3e38, "from 0"),
        schedule=choice("schedule", schedule, SCHEDULES),
        validation=share,
        patience=None if patience is None else whole("patience", patience, 1),
    )


def n_validation(n_samples: int, share: float) -> int:
    """How many of ``n_samples`` a share holds out."""
    return round(n_samples * share)


def _batch_size(batch_size: int | None, low: int, n_samples: int) -> int:
    if batch_size is None:
        return min(DEFAULT_BATCH_SIZE, n_samples)
    size = whole("batch_size", batch_size, low)
    if size > n_samples:
        raise ParameterError(
            f"batch_size is {size}, expected {low} to {n_samples}, the number of samples: "
            "make it smaller or leave it out"
        )
    return size
