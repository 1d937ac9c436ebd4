"""Table 5: TinyTL on ProxylessNAS-Mobile, with group norm ("gn") and batch norm ("bn").

TinyTL is Cai, Gan, Zhu and Han, "TinyTL: Reduce Memory, Not Parameters for Efficient On-Device
Learning", NeurIPS 2020 (the paper's [2]). It freezes the weights of a network and trains its
biases, its classifier and *lite residual modules*: beside each block but the first, the input is
halved by average pooling, goes through a 5x5 convolution in 2 groups and a 1x1 convolution, and is
enlarged and added to the block's output. None of these needs the activations inside the block.

The paper gives accuracies alone. What it leaves open, and what was chosen here:

* Vectors as images, and the strides: see :mod:`skip2lora.paper.proxyless`. Features are as in the
  task, without normalisation, as for the paper's own network.
* Lite residual modules are part of the pre-trained network, as in the one TinyTL released (its
  checkpoint is called ``proxylessnas_mobile+lite_residual@imagenet@ws+gn``). Their last norm starts
  at zero, so they start silent.
* Their kernel is no larger than the pooled image, as in TinyTL's script: 3x3 or 1x1 at 16x16, and
  where nothing is left to pool (one pixel) the global mean goes through 1x1.
* Trained when fine-tuning: biases of the main branch (all of them belong to norms), lite residual
  modules and classifier. The bias of a module's last norm is frozen, as in TinyTL's script: the
  block's own bias does the same. Nothing is quantised to 8 bits, which the paper does not mention.
* Group norm comes with standardized filters, as in TinyTL; batch norm without. Batch norm uses the
  statistics of the batch in both trainings and its running statistics, which follow, in the test.
* Pre-training starts from random weights and trains everything on the task's pre-training samples:
  there are no others like them.
* Adam without weight decay, cross-entropy, batches of 20 as in the paper, dropout 0.2 before the
  classifier. In pre-training the learning rate goes down from 0.001 to 0 along half a cosine.
  TinyTL has Adam, the cosine, the dropout, and rates of 0.0002 to 0.0008 for batches of 8.
* Fine-tuning ends when it stops improving, judged by fine-tune samples that it does not train on:
  of each class every fifth of 25 runs of neighbouring samples, another fifth for another seed.
  Where their loss has not fallen for 4 epochs, the weights of the best epoch come back and a fifth
  of the learning rate goes on, from 0.005 to 0.001 to 0.0002; after that they are the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from skip2lora.arrays import whole
from skip2lora.data.samples import Samples
from skip2lora.datasets import Split
from skip2lora.errors import DataError, DivergedError
from skip2lora.paper.proxyless import (
    FIRST_STRIDE,
    InvertedBottleneck,
    Norm,
    ProxylessNAS,
    conv_norm,
    count_parameters,
    reshape_vectors,
    side_of,
)
from skip2lora.paper.tables import TESTED_EPOCHS
from skip2lora.training.folds import block_folds

__all__ = [
    "LEARNING_RATES",
    "PRETRAIN_EPOCHS",
    "Epoch",
    "LiteResidual",
    "TinyTLResult",
    "freeze_for_tinytl",
    "insert_lite_residuals",
    "reshape_vectors",
    "run_trial",
    "tinytl_network",
]

#: Of fine-tuning, one after the other; pre-training begins with 0.001.
LEARNING_RATES = (0.005, 0.001, 0.0002)
#: By task: 240 batches on the fan, 590 on HAR.
PRETRAIN_EPOCHS = {"damage1": 10, "damage2": 10, "har": 2}

_PRETRAIN_RATE = 0.001
_PATIENCE = 4
_RUNS, _HELD_OUT = 25, 5  # of a class, and every which of them is held out
_POOLING = 2
_KERNEL = 5
_GROUPS = 2
_TEST_BATCH = 100

#: Called after each epoch with "pretrain" or "finetune", the epoch from 1, and its mean loss.
Callback = Callable[[str, int, float], None]


class Epoch(NamedTuple):
    """One of fine-tuning: ``loss`` of what is trained on, loss and accuracy of what is held out.

    ``tested``, the accuracy on the test samples, is None but for a few epochs.
    """

    rate: float
    loss: float
    held_out_loss: float
    held_out: float
    tested: float | None


class TinyTLResult(NamedTuple):
    """One trial: test accuracies (0 to 1) after and before fine-tuning, and parameter counts.

    ``curve`` are all epochs of fine-tuning, ``best_epoch``, from 1, is the one whose weights these
    are.
    """

    accuracy: float
    before: float
    n_parameters: int
    n_trainable: int
    curve: tuple[Epoch, ...]
    best_epoch: int


class LiteResidual(nn.Module):  # type: ignore[misc, unused-ignore]
    """TinyTL's side branch of ``block``, whose input has ``side`` pixels a side."""

    def __init__(self, block: InvertedBottleneck, side: int, norm: Norm) -> None:
        super().__init__()
        pooled = max(1, side // _POOLING)
        kernel = min(_KERNEL, pooled - 1 + pooled % 2)  # the largest odd one that fits
        one_pixel = pooled == 1
        self.pool = nn.AdaptiveAvgPool2d(1) if one_pixel else nn.AvgPool2d(_POOLING)
        width, stride = block.in_channels, 1 if one_pixel else block.stride
        self.grouped = nn.Sequential(
            *conv_norm(norm, (width, width), kernel, stride, _GROUPS), nn.ReLU()
        )
        self.pointwise, self.final_norm = conv_norm(norm, (width, block.out_channels), 1)
        nn.init.zeros_(self.final_norm.weight)  # silent at first: the block's output is unchanged

    def forward(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """(batch, in_channels, side, side) to (batch, out_channels, *size)."""
        small = self.final_norm(self.pointwise(self.grouped(self.pool(image))))
        return nn.functional.interpolate(small, size=size, mode="bilinear", align_corners=False)


def insert_lite_residuals(network: ProxylessNAS, side: int) -> None:
    """Give every block but the first its module, for images of ``side`` pixels a side."""
    side //= FIRST_STRIDE * network.blocks[0].stride
    for block in network.blocks[1:]:
        block.lite = LiteResidual(block, side, network.norm)
        side //= block.stride


def freeze_for_tinytl(network: ProxylessNAS) -> None:
    """Leave trainable what TinyTL trains: biases, lite residual modules and the classifier."""
    for name, parameter in network.named_parameters():
        if name.endswith("lite.final_norm.bias"):
            trains = False
        else:
            trains = ".lite." in name or name.startswith("classifier.") or name.endswith(".bias")
        parameter.requires_grad_(trains)


def tinytl_network(n_features: int, n_classes: int, *, norm: Norm, seed: int) -> ProxylessNAS:
    """Return the network to pre-train for vectors of ``n_features``, every parameter trainable.

    PyTorch's global generator is left as it was.

    Raises:
        ParameterError: another norm than "gn" and "bn".
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ProxylessNAS(n_classes, norm=norm)
        insert_lite_residuals(network, side_of(n_features))
    # The layout in which PyTorch's CPU kernels for such small images are fastest.
    return network.to(memory_format=torch.channels_last)


def run_trial(
    split: Split,
    *,
    norm: Norm,
    seed: int,
    pretrain_epochs: int,
    most_epochs: int = 1000,
    batch_size: int = 20,
    callback: Callback | None = None,
) -> TinyTLResult:
    """Pre-train, fine-tune as TinyTL does until it stops improving, and test, on ``split``.

    ``most_epochs`` end fine-tuning before that. No test sample decides anything.
    The same seed gives the same result on the same machine with the same number of PyTorch's
    threads, which is the caller's choice; its global generator is left as it was.

    Raises:
        ParameterError: another norm than "gn" and "bn", or a number out of its range.
        DataError: parts of different width, or labels missing.
        DivergedError: the loss left the finite numbers.
    """
    pretrain, finetune, test = split
    n_features = pretrain.x.shape[1]
    for part in (finetune, test):
        if part.x.shape[1] != n_features:
            raise DataError(
                f"a part of the split has {part.x.shape[1]} features, expected {n_features} as in "
                "pre-training: make the split from one dataset"
            )
    whole("pretrain_epochs", pretrain_epochs, 1)
    whole("most_epochs", most_epochs, 1)
    whole("batch_size", batch_size, 2)
    seed = whole("seed", seed, 0, (1 << 63) - 1)
    n_classes = 1 + max(int(part.labels.max()) for part in split)
    network = tinytl_network(n_features, n_classes, norm=norm, seed=seed)
    order = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # for the dropout
        _pretrain(network, pretrain, pretrain_epochs, batch_size, order, callback)
        before = _judge(network, test)[1]
        freeze_for_tinytl(network)
        trainer = _Trainer(network, batch_size, order)
        curve, best = _finetune(trainer, _parts(finetune, seed), test, most_epochs, callback)
    return TinyTLResult(
        _judge(network, test)[1], before, *count_parameters(network), tuple(curve), best
    )


@dataclass(frozen=True, eq=False)
class _Trainer:
    """Trains what is trainable: a fresh permutation an epoch, the last batch may be short."""

    network: ProxylessNAS
    batch_size: int
    order: torch.Generator

    def optimizer(self, rate: float) -> torch.optim.Optimizer:
        trained = [part for part in self.network.parameters() if part.requires_grad]
        return torch.optim.Adam(trained, lr=rate, fused=True)

    def epoch(
        self, samples: Samples, optimizer: torch.optim.Optimizer,
        after: Callable[[], None] = lambda: None,
    ) -> float:  # fmt: skip
        """The mean loss of an epoch; ``after`` is called after each batch."""
        images, labels = reshape_vectors(samples.x), torch.as_tensor(samples.labels)
        self.network.train()
        total = 0.0
        for rows in torch.randperm(len(labels), generator=self.order).split(self.batch_size):
            if len(rows) > 1:  # one row has no batch statistics
                loss = nn.functional.cross_entropy(self.network(images[rows]), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += float(loss.detach()) * len(rows)
            after()
        if not math.isfinite(total):
            raise DivergedError(
                f"the loss is {total} after an epoch of TinyTL, expected a finite number: check "
                "the samples"
            )
        return total / len(labels)


def _pretrain(
    network: ProxylessNAS, samples: Samples, epochs: int, batch_size: int,
    order: torch.Generator, callback: Callback | None,
) -> None:  # fmt: skip
    trainer = _Trainer(network, batch_size, order)
    optimizer = trainer.optimizer(_PRETRAIN_RATE)
    n_batches = epochs * math.ceil(len(samples.labels) / batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_batches)
    for number in range(1, epochs + 1):
        loss = trainer.epoch(samples, optimizer, schedule.step)
        if callback is not None:
            callback("pretrain", number, loss)


def _parts(samples: Samples, seed: int) -> tuple[Samples, Samples]:
    """What is trained on, and what says whether that still improves."""
    runs = block_folds(samples.labels, n_folds=_RUNS).of
    held = (runs >= 0) & (runs % _HELD_OUT == seed % _HELD_OUT)
    trained, judged = (
        Samples(samples.x[rows], samples.labels[rows], samples.class_names)
        for rows in (~held, held)
    )
    return trained, judged


def _finetune(
    trainer: _Trainer, parts: tuple[Samples, Samples], test: Samples, most_epochs: int,
    callback: Callback | None,
) -> tuple[list[Epoch], int]:  # fmt: skip
    """Train until it stops improving, and leave the best weights; all epochs, and theirs."""
    network, (trained, judged) = trainer.network, parts
    curve: list[Epoch] = []
    best, lowest, weights = 0, math.inf, deepcopy(network.state_dict())
    for rate in LEARNING_RATES:
        optimizer, since = trainer.optimizer(rate), len(curve)
        while len(curve) < most_epochs and len(curve) - max(best, since) < _PATIENCE:
            loss = trainer.epoch(trained, optimizer)
            number = len(curve) + 1
            tested = _judge(network, test)[1] if number in TESTED_EPOCHS else None
            curve.append(Epoch(rate, loss, *_judge(network, judged), tested))
            if curve[-1].held_out_loss < lowest:
                best, lowest = number, curve[-1].held_out_loss
                weights = deepcopy(network.state_dict())
            if callback is not None:
                callback("finetune", number, loss)
        network.load_state_dict(weights)
    return curve, best


def _judge(network: ProxylessNAS, samples: Samples) -> tuple[float, float]:
    """Mean loss on ``samples``, and the share that the network labels right, 0 to 1."""
    labels = torch.as_tensor(samples.labels)
    network.eval()
    with torch.no_grad():
        batches = reshape_vectors(samples.x).split(_TEST_BATCH)
        logits = torch.cat([network(images) for images in batches])
    right = int((logits.argmax(dim=1) == labels).sum())
    return float(nn.functional.cross_entropy(logits, labels)), right / len(labels)
