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
  classifier; the learning rate goes down to 0 along half a cosine, from 0.001 in pre-training and
  from 0.005 in fine-tuning (0.001 had not settled after 10 epochs). TinyTL has Adam, the cosine,
  the dropout, and rates of 0.0002 to 0.0008 for batches of 8 and more than ten times the batches.
* Epochs: see :data:`EPOCHS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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

__all__ = [
    "EPOCHS",
    "LEARNING_RATES",
    "LiteResidual",
    "TinyTLResult",
    "freeze_for_tinytl",
    "insert_lite_residuals",
    "reshape_vectors",
    "run_trial",
    "tinytl_network",
]

#: The first learning rate of each training.
LEARNING_RATES = {"pretrain": 0.001, "finetune": 0.005}
#: (pre-training, fine-tuning) epochs by task, so that a trial takes one to two minutes on one core.
#: On the fan tasks the accuracy has settled by then; HAR has 295 batches in one epoch of
#: pre-training, so one must do.
EPOCHS = {"damage1": (6, 14), "damage2": (6, 14), "har": (1, 6)}

_POOLING = 2
_KERNEL = 5
_GROUPS = 2
_TEST_BATCH = 100

#: Called after each epoch with "pretrain" or "finetune", the epoch from 1, and its mean loss.
Callback = Callable[[str, int, float], None]


class TinyTLResult(NamedTuple):
    """One trial: test accuracies (0 to 1) after and before fine-tuning, and parameter counts."""

    accuracy: float
    before: float
    n_parameters: int
    n_trainable: int


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
    finetune_epochs: int,
    batch_size: int = 20,
    callback: Callback | None = None,
) -> TinyTLResult:
    """Pre-train, fine-tune as TinyTL does and test, on the three parts of ``split``.

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
    whole("finetune_epochs", finetune_epochs, 1)
    whole("batch_size", batch_size, 2)
    seed = whole("seed", seed, 0, (1 << 63) - 1)
    n_classes = 1 + max(int(part.labels.max()) for part in split)
    network = tinytl_network(n_features, n_classes, norm=norm, seed=seed)
    order = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # for the dropout
        _train(network, pretrain, pretrain_epochs, batch_size, order, "pretrain", callback)
        before = _accuracy(network, test)
        freeze_for_tinytl(network)
        _train(network, finetune, finetune_epochs, batch_size, order, "finetune", callback)
    return TinyTLResult(_accuracy(network, test), before, *count_parameters(network))


def _train(
    network: ProxylessNAS,
    samples: Samples,
    epochs: int,
    batch_size: int,
    order: torch.Generator,
    phase: str,
    callback: Callback | None,
) -> None:
    """Train what is trainable: a fresh permutation an epoch, the last batch may be short."""
    images, labels = reshape_vectors(samples.x), torch.as_tensor(samples.labels)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=LEARNING_RATES[phase])
    n_batches = math.ceil(len(labels) / batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * n_batches)
    network.train()
    for epoch in range(1, epochs + 1):
        total = 0.0
        for rows in torch.randperm(len(labels), generator=order).split(batch_size):
            if len(rows) > 1:  # one row has no batch statistics
                loss = nn.functional.cross_entropy(network(images[rows]), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += float(loss.detach()) * len(rows)
            schedule.step()
        if not math.isfinite(total):
            raise DivergedError(
                f"the loss is {total} in epoch {epoch} of TinyTL's {phase}, expected a finite "
                "number: check the samples"
            )
        if callback is not None:
            callback(phase, epoch, total / len(labels))


def _accuracy(network: ProxylessNAS, samples: Samples) -> float:
    """Return the share of ``samples`` that the network labels right, 0 to 1."""
    labels = torch.as_tensor(samples.labels)
    network.eval()
    with torch.no_grad():
        batches = reshape_vectors(samples.x).split(_TEST_BATCH)
        guesses = torch.cat([network(images).argmax(dim=1) for images in batches])
    return int((guesses == labels).sum()) / len(labels)
