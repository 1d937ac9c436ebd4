"""Per-batch time of adapting on cached rows: this package against PyTorch eager, one thread.

Both sides train the same adapters (Eq. 17) on the same cached taps with the same batch size by
plain SGD, in one process, in turn. Prints median, smallest and largest of the rounds.

    python bench/step.py [--rounds 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

import skip2lora as s2
from skip2lora import _core

NETS = {"256-96-96-3": (470, [256, 96, 96, 3]), "561-96-96-6": (1048, [561, 96, 96, 6])}
RANK, BATCH, RATE = 4, 20, 0.01


def torch_epoch(taps, base, labels, lora_a, lora_b, optimizer, order):
    for at in range(0, len(order), BATCH):
        index = order[at : at + BATCH]
        logits = base[index]
        for tap, a, b in zip(taps, lora_a, lora_b, strict=True):
            logits = logits + tap[index] @ a @ b
        loss = torch.nn.functional.cross_entropy(logits, labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def measure(n_samples, widths, rounds):
    """Microseconds a batch of each round: ours, PyTorch."""
    random = np.random.default_rng(0)
    x = random.standard_normal((n_samples, widths[0]), dtype=np.float32)
    y = random.integers(0, widths[-1], n_samples)
    model = s2.pretrain(s2.MLP.create(widths), x, y, epochs=2)
    made = model.forward(x)
    taps = [torch.from_numpy(np.ascontiguousarray(tap)) for tap in made.taps]
    base = torch.from_numpy(np.ascontiguousarray(made.base_logits))
    labels = torch.from_numpy(y)
    lora_a = [(torch.rand(t.shape[1], RANK) * 2 - 1) / t.shape[1] ** 0.5 for t in taps]
    lora_b = [torch.zeros(RANK, widths[-1]) for _ in taps]
    optimizer = torch.optim.SGD([p.requires_grad_() for p in (*lora_a, *lora_b)], lr=RATE)
    batches = -(-n_samples // BATCH)
    ours, theirs = [], []
    for number in range(rounds + 1):  # the first is the warm-up
        adapted = s2.adapt(model, x, y, rank=RANK, epochs=100, batch_size=BATCH, learning_rate=RATE)
        start = time.perf_counter()
        for _ in range(5):
            torch_epoch(taps, base, labels, lora_a, lora_b, optimizer, torch.randperm(n_samples))
        took = time.perf_counter() - start
        if number:
            ours.append(1e3 * adapted.timing.training_ms / adapted.history.n_batches)
            theirs.append(1e6 * took / (5 * batches))
    return ours, theirs


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.machine()


def commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {
        "cpu": cpu_name(),
        "commit": commit(),
        "kernels": _core.kernels(),
        "torch": torch.__version__,
        "threads": {"skip2lora": 1, "torch": torch.get_num_threads()},
        "rounds": arguments.rounds,
        "nets": {},
    }
    for name, (n_samples, widths) in NETS.items():
        ours, theirs = measure(n_samples, widths, arguments.rounds)
        results["nets"][name] = {
            "skip2lora_us": sorted(ours),
            "torch_us": sorted(theirs),
            "ratio": statistics.median(theirs) / statistics.median(ours),
        }
    if arguments.json:
        print(json.dumps(results))
        return
    print(f"{results['cpu']}, commit {results['commit']}, one thread each")
    print(f"skip2lora {results['kernels']} kernels, PyTorch {results['torch']}")
    print(f"microseconds a batch of {BATCH}, rank {RANK}: median (smallest to largest)")
    for name, of in results["nets"].items():
        for side in ("skip2lora_us", "torch_us"):
            times = of[side]
            print(
                f"  {name}  {side[:-3]:<10} {statistics.median(times):8.2f} "
                f"({times[0]:.2f} to {times[-1]:.2f})"
            )
        print(f"  {name}  {of['ratio']:.0f} times faster")


if __name__ == "__main__":
    main()
