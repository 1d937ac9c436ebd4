"""Microseconds a batch: this package beside PyTorch eager, PEFT and scikit-learn.

    python bench/peers.py [--rounds 5] [--quick] [--json]

Same network, same samples, same batch of 20, plain SGD, one thread each, in one process and in
turn. Both sides draw a fresh permutation an epoch and gather the batch, and both are timed over
whole epochs. LoRA-All normalises by the statistics of the batch. The cached sides start with a
full cache; scikit-learn learns from the same cached taps side by side, another model (a linear one,
a hidden layer of 96) at the same task, as somebody would who has only that.
"""

from __future__ import annotations

import harness  # first: one thread

# isort: split
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import skip2lora as s2
from harness import BATCH, NETS, RANK, RATE, Net, Side, options
from skip2lora.methods import METHODS
from skip2lora.training.jobs import CheckedSamples, NetworkJob
from skip2lora.training.skip_job import SkipJob

TARGETS = {  # (slow side, fast side): smallest ratio on each network
    ("torch lora-all", "skip2-lora"): (200, 130),
    ("torch cached adapters", "skip2-lora"): (120, 80),
    ("torch lora-all", "lora-all"): (15, 11),
}


class LoRALinear(torch.nn.Module):
    """A frozen FC layer with its own adapter, y = x W + b + x A B (Eqs. 7-9)."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        n_in, n_out = linear.in_features, linear.out_features
        self.a = torch.nn.Parameter((torch.rand(n_in, RANK) * 2 - 1) / n_in**0.5)
        self.b = torch.nn.Parameter(torch.zeros(RANK, n_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) + x @ self.a @ self.b


def torch_network(model: s2.MLP, wrap: Callable[[torch.nn.Linear], torch.nn.Module]) -> Any:
    """The same numbers as ``model`` in a Sequential, frozen."""
    parts: list[torch.nn.Module] = []
    for layer in model.layers:
        linear = torch.nn.Linear(*layer.weight.shape)
        linear.weight.data = torch.from_numpy(layer.weight.T.copy())
        linear.bias.data = torch.from_numpy(layer.bias.copy())
        parts.append(wrap(linear.requires_grad_(requires_grad=False)))
        if layer.gamma is not None:
            norm = torch.nn.BatchNorm1d(len(layer.gamma), eps=model.bn_eps)
            norm.weight.data = torch.from_numpy(layer.gamma.copy())
            norm.bias.data = torch.from_numpy(layer.beta.copy())
            norm.running_mean = torch.from_numpy(layer.mean.copy())
            norm.running_var = torch.from_numpy(layer.var.copy())
            parts += [norm.requires_grad_(requires_grad=False), torch.nn.ReLU()]
    return torch.nn.Sequential(*parts)


def torch_epochs(
    logits_of: Callable[[torch.Tensor], torch.Tensor], parameters: Any, labels: torch.Tensor
) -> Side:
    """One epoch of SGD; ``logits_of`` is given the samples' indices."""
    optimizer = torch.optim.SGD([p for p in parameters if p.requires_grad], lr=RATE)

    def epoch() -> None:
        order = torch.randperm(len(labels))
        for at in range(0, len(order), BATCH):
            index = order[at : at + BATCH]
            loss = torch.nn.functional.cross_entropy(logits_of(index), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return Side(epoch, -(-len(labels) // BATCH))


class SkipNet(torch.nn.Module):
    """Skip-LoRA: the frozen network in inference mode, an adapter from each tap (Eq. 17)."""

    def __init__(self, model: s2.MLP) -> None:
        super().__init__()
        self.layers = torch_network(model, lambda linear: linear).eval()
        pairs = [LoRALinear(torch.nn.Linear(w, model.n_outputs)) for w in model.tap_widths]
        self.a = torch.nn.ParameterList([pair.a for pair in pairs])
        self.b = torch.nn.ParameterList([pair.b for pair in pairs])

    @torch.no_grad()
    def taps(self, x: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        taps, y = [], x
        for layer in self.layers:
            if isinstance(layer, torch.nn.Linear):
                taps.append(y)
            y = layer(y)
        return taps, y

    def add(self, taps: list[torch.Tensor], base: torch.Tensor) -> torch.Tensor:
        for tap, a, b in zip(taps, self.a, self.b, strict=True):
            base = base + tap @ a @ b
        return base


def peft_network(model: s2.MLP) -> Any:
    """The same network with PEFT's adapter beside each FC layer."""
    from peft import LoraConfig, get_peft_model

    plain = torch_network(model, lambda linear: linear)
    names = [name for name, of in plain.named_modules() if isinstance(of, torch.nn.Linear)]
    return get_peft_model(plain, LoraConfig(r=RANK, lora_alpha=RANK, target_modules=names))


def torch_sides(model: s2.MLP, x: np.ndarray, y: np.ndarray) -> dict[str, Side]:
    torch.manual_seed(0)
    samples, labels = torch.from_numpy(x), torch.from_numpy(y.astype(np.int64))
    lora_all = torch_network(model, LoRALinear).train()
    peft = peft_network(model).train()
    skip, cached = SkipNet(model), SkipNet(model)
    taps, base = cached.taps(samples)
    return {
        "torch lora-all": torch_epochs(
            lambda index: lora_all(samples[index]), lora_all.parameters(), labels
        ),
        "peft lora": torch_epochs(lambda index: peft(samples[index]), peft.parameters(), labels),
        "torch skip-lora": torch_epochs(
            lambda index: skip.add(*skip.taps(samples[index])), skip.parameters(), labels
        ),
        "torch cached adapters": torch_epochs(
            lambda index: cached.add([tap[index] for tap in taps], base[index]),
            cached.parameters(), labels,
        ),
    }  # fmt: skip


def our_sides(model: s2.MLP, x: np.ndarray, y: np.ndarray) -> dict[str, Side]:
    sides = {}
    for name in ("lora-all", "skip-lora", "skip2-lora"):
        method = METHODS[name]
        make = SkipJob if method.skip else NetworkJob
        job = make(model, CheckedSamples(x, y), options(name))
        sides[name] = Side(lambda job=job: job.epoch(RATE), -(-len(x) // BATCH))
    return sides


def sklearn_sides(features: np.ndarray, y: np.ndarray) -> tuple[dict[str, Side], dict[str, Any]]:
    """``partial_fit`` a batch on the cached taps side by side."""
    from sklearn.linear_model import SGDClassifier
    from sklearn.neural_network import MLPClassifier

    sgd = {"learning_rate": "constant", "random_state": 0}
    learners = {
        "sklearn SGDClassifier": SGDClassifier(loss="log_loss", alpha=0.0, eta0=RATE, **sgd),
        "sklearn MLPClassifier": MLPClassifier(
            (96,), solver="sgd", alpha=0.0, learning_rate_init=RATE, momentum=0.0, **sgd
        ),
    }  # fmt: skip
    random = np.random.default_rng(0)
    classes = np.unique(y)

    def epoch(learner: Any) -> None:
        order = random.permutation(len(y))
        for at in range(0, len(order), BATCH):
            index = order[at : at + BATCH]
            learner.partial_fit(features[index], y[index], classes=classes)

    batches = -(-len(y) // BATCH)
    return {
        name: Side(lambda learner=learner: epoch(learner), batches)
        for name, learner in learners.items()
    }, learners


def accuracies(arguments: Any) -> dict[str, Any]:
    """Test accuracy of the cached sides after the paper's recipe on a task with a true drift."""
    n_seeds, epochs = (1, 3) if arguments.quick else (3, 300)
    found: dict[str, list[float]] = {}
    for seed in range(n_seeds):
        task, split = harness.task(arguments.data, seed)
        model = harness.pretrained(split, seed, quick=arguments.quick)
        x, y, test = split.finetune.x, split.finetune.labels, split.test
        features, of_test = (np.hstack(model.forward(part).taps) for part in (x, test.x))
        sides, learners = sklearn_sides(features, y)
        for side in sides.values():
            for _ in range(epochs):
                side.run()
        adapted = s2.adapt(model, x, y, epochs=epochs, seed=seed)
        scores = {
            "not adapted": model.score(test.x, test.labels),
            "skip2-lora": adapted.score(test.x, test.labels),
        } | {name: learner.score(of_test, test.labels) for name, learner in learners.items()}
        for name, score in scores.items():
            found.setdefault(name, []).append(float(score))
    return {
        "task": task, "epochs": epochs, "seeds": n_seeds,
        "accuracy": {name: harness.spread(of) for name, of in found.items()},
    }  # fmt: skip


def measure_net(net: Net, rounds: int, *, quick: bool) -> dict[str, Any]:
    x, y = harness.random_data(net)
    # Trained on other centres: something is left for every side to learn.
    model = s2.pretrain(
        s2.MLP.create(net.widths), *harness.random_data(net, seed=1), epochs=2 if quick else 20
    )
    features = np.hstack(model.forward(x).taps)
    sides = our_sides(model, x, y) | torch_sides(model, x, y) | sklearn_sides(features, y)[0]
    took = harness.in_turn(sides, rounds=rounds, seconds=0.02 if quick else 0.3)
    return {
        "us_a_batch": {name: harness.spread(of, 1e6) for name, of in took.items()},
        "ratios": {
            f"{slow} / {fast}": harness.ratios(took[slow], took[fast])
            for fast in ("skip2-lora", "lora-all")
            for slow in took
            if slow.partition(" ")[0] in ("torch", "peft", "sklearn")
            and (fast == "skip2-lora" or (slow, fast) in TARGETS)
        },
    }


def measure(arguments: Any) -> dict[str, Any]:
    import peft
    import sklearn

    torch.set_num_threads(1)
    nets = {net.name: measure_net(net, arguments.rounds, quick=arguments.quick) for net in NETS}
    return {
        "versions": {
            "torch": torch.__version__, "peft": peft.__version__, "numpy": np.__version__,
            "scikit-learn": sklearn.__version__,
        },
        "threads": {"skip2lora": 1, "torch": torch.get_num_threads(), "numpy": harness.blas()},
        "nets": nets,
        "accuracy": accuracies(arguments),
        "targets": targets_of(nets),
    }  # fmt: skip


def targets_of(nets: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        harness.target(
            f"{net}: {slow} / {fast}, time a batch",
            of["ratios"][f"{slow} / {fast}"]["median"],
            least[place],
        )
        for place, (net, of) in enumerate(nets.items())
        for (slow, fast), least in TARGETS.items()
    ]


def lines(result: dict[str, Any]) -> list[str]:
    made = [f"threads: {result['threads']}", f"versions: {result['versions']}"]
    for net, of in result["nets"].items():
        made.append(f"{net}: microseconds a batch of {BATCH}, rank {RANK}")
        made += [f"  {name:<24} {harness.shown(us)}" for name, us in of["us_a_batch"].items()]
        made += [f"  {name:<48} {harness.shown(ratio)}" for name, ratio in of["ratios"].items()]
    of = result["accuracy"]
    kept = ", ".join(f"{name} {100 * a['median']:.1f} %" for name, a in of["accuracy"].items())
    made.append(f"test accuracy, {of['task']}, {of['epochs']} epochs, {of['seeds']} seeds: {kept}")
    return made


if __name__ == "__main__":
    harness.run(__doc__, measure, lines)
