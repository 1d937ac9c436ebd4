"""Adapting any PyTorch module: cached rows of 16 taps beside PEFT LoRA on the same module.

    python bench/any_module.py [--rounds 5] [--quick] [--json]

500 samples, 50 epochs, batches of 20, rank 4, Adam at 0.001, one thread each. PEFT adapts every
layer that holds weights and trains through the network; an epoch of it is timed and counted 50
times. This package trains on rows that one forward pass filled, all 50 epochs are timed; the time
to fill them is shown as well.
"""

from __future__ import annotations

import harness  # first: one thread

# isort: split
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

import skip2lora as s2
from harness import BATCH, RANK, Side

EPOCHS, RATE, N_CLASSES = 50, 0.001, 10
LEAST_RATIO, MOST_SECONDS = 20, 2.0


class ConvNet(nn.Module):
    """15 convolutions with batch norm on images of 3 x 32 x 32, then a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        width_in = 3
        for width in (16, 32, 64):
            for number in range(5):
                stride = 2 if number == 0 and width > 16 else 1
                parts += [
                    nn.Conv2d(width_in, width, 3, stride, 1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(),
                ]
                width_in = width
        self.features, self.head = nn.Sequential(*parts), nn.Linear(64, N_CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images).mean((2, 3)))


class Block(nn.Module):
    """Attention and two linear layers, normalised before each."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.before(x)
        q, k, v = (
            layer(h).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        h = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(h.transpose(1, 2).flatten(2))
        return x + self.down(nn.functional.gelu(self.up(self.between(x))))


class Transformer(nn.Module):
    """Four blocks of width 128 on 32 token ids, then a linear layer on their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(1000, 128)
        self.blocks = nn.Sequential(*(Block(128, 4) for _ in range(4)))
        self.head = nn.Linear(128, N_CLASSES)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.table(ids)).mean(1))


def images(n_samples: int) -> np.ndarray:
    random = np.random.default_rng(0)
    return random.standard_normal((n_samples, 3, 32, 32), dtype=np.float32)


def tokens(n_samples: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1000, (n_samples, 32))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], np.ndarray]]] = {
    "CNN": (ConvNet, images),
    "transformer": (Transformer, tokens),
}


def made(name: str, n_samples: int) -> tuple[nn.Module, np.ndarray, np.ndarray]:
    """A network with random weights (times do not depend on them), samples and labels."""
    network, samples = NETWORKS[name]
    torch.manual_seed(0)
    labels = np.random.default_rng(1).integers(0, N_CLASSES, n_samples)
    return network().eval(), samples(n_samples), labels


def peft_network(module: nn.Module) -> Any:
    """``module`` with PEFT's adapter beside each layer that holds weights."""
    from peft import LoraConfig, get_peft_model

    names = [name for name, of in module.named_modules() if isinstance(of, nn.Linear | nn.Conv2d)]
    return get_peft_model(module, LoraConfig(r=RANK, lora_alpha=RANK, target_modules=names))


def peft_side(module: nn.Module, x: np.ndarray, y: np.ndarray) -> Side:
    """One epoch through the network, frozen statistics, adapters trained."""
    network = peft_network(module).eval()
    samples, labels = torch.from_numpy(x), torch.from_numpy(y)
    trained = [each for each in network.parameters() if each.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=RATE)

    def epoch() -> None:
        for index in torch.randperm(len(labels)).split(BATCH):
            loss = nn.functional.cross_entropy(network(samples[index]), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return Side(epoch)


def adapted(module: nn.Module, x: np.ndarray, y: np.ndarray) -> s2.AdaptedModel:
    return s2.adapt(
        s2.TorchBackbone(module), x, y, rank=RANK, epochs=EPOCHS, batch_size=BATCH,
        learning_rate=RATE, optimizer="adam",
    )  # fmt: skip


def measure_network(name: str, n_samples: int, rounds: int) -> dict[str, Any]:
    module, x, y = made(name, n_samples)
    times = [adapted(module, x, y).timing for _ in range(rounds + 1)][1:]  # one to warm up
    backbone = s2.TorchBackbone(module, example=x[:1])
    ours = [time.training_ms / 1000 for time in times]
    side = peft_side(module, x, y)  # last: PEFT changes the module
    epochs = harness.in_turn({"peft": side}, rounds=rounds, seconds=0.0)["peft"]
    theirs = [EPOCHS * seconds for seconds in epochs]
    return {
        "tap_widths": list(backbone.tap_widths),
        "training_s": harness.spread(ours),
        "cache_fill_s": harness.spread([time.cache_fill_ms / 1000 for time in times]),
        "total_s": harness.spread([time.total_ms / 1000 for time in times]),
        "peft_s": harness.spread(theirs),
        "ratio": harness.ratios(theirs, ours),
        "ratio_with_fill": harness.ratios(theirs, [time.total_ms / 1000 for time in times]),
    }


def measure(arguments: Any) -> dict[str, Any]:
    import peft

    torch.set_num_threads(1)
    n_samples, rounds = (60, 1) if arguments.quick else (500, arguments.rounds)
    networks = {name: measure_network(name, n_samples, rounds) for name in NETWORKS}
    targets = []
    for name, of in networks.items():
        told = f"{name}: PEFT LoRA / training on cached rows"
        targets.append(harness.target(told, of["ratio"]["median"], LEAST_RATIO))
        told = f"{name}: seconds of training on cached rows"
        targets.append(
            harness.target(told, of["training_s"]["median"], MOST_SECONDS, at_least=False)
        )
    return {
        "versions": {"torch": torch.__version__, "peft": peft.__version__},
        "threads": {"skip2lora": 1, "torch": torch.get_num_threads()},
        "samples": n_samples, "epochs": EPOCHS, "networks": networks, "targets": targets,
    }  # fmt: skip


def lines(result: dict[str, Any]) -> list[str]:
    shown = [f"threads: {result['threads']}", f"versions: {result['versions']}"]
    names = {
        "peft_s": "PEFT LoRA, seconds", "training_s": "cached rows, seconds",
        "cache_fill_s": "filling the cache, seconds", "total_s": "filling and training, seconds",
        "ratio": "PEFT / training", "ratio_with_fill": "PEFT / filling and training",
    }  # fmt: skip
    for name, of in result["networks"].items():
        widths = of["tap_widths"]
        shown.append(
            f"{name}: {result['samples']} samples, {result['epochs']} epochs, {len(widths)} taps "
            f"of width {min(widths)} to {max(widths)}"
        )
        shown += [f"  {told:<32} {harness.shown(of[key])}" for key, told in names.items()]
    return shown


if __name__ == "__main__":
    harness.run(__doc__, measure, lines)
