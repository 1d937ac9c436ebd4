"""Every method on both networks, as `skip2lora bench` prints it.

python bench/methods.py [--rounds 5] [--quick] [--json]
"""

from __future__ import annotations

import harness  # first: one thread

# isort: split
from dataclasses import asdict
from typing import Any

import skip2lora as s2
from harness import BATCH, NETS, RANK
from skip2lora.bench import run_bench


def measure(arguments: Any) -> dict[str, Any]:
    results = {
        net.name: asdict(
            run_bench(
                s2.MLP.create(net.widths), n_samples=net.n_samples, batch_size=BATCH, rank=RANK,
                rounds=arguments.rounds, seconds=0.005 if arguments.quick else 0.1,
            )
        )
        for net in NETS
    }  # fmt: skip
    return {"threads": {"skip2lora": 1}, "nets": results}


def lines(result: dict[str, Any]) -> list[str]:
    made = []
    for net, of in result["nets"].items():
        made.append(f"{net}: multiply-add peak {harness.shown(of['peak_gflops'], 'GFLOP/s')}")
        made += [
            f"  {name:<12} {harness.shown(time['us_a_batch'], 'us a batch')}, "
            f"{time['gflops']:.1f} GFLOP/s, {100 * time['share_of_peak']:.1f} % of peak"
            for name, time in of["methods"].items()
        ]
        made += [
            f"  cache fill {harness.shown(of['cache_fill_ms'], 'ms')}",
            f"  predict, one sample a call {harness.shown(of['predict_us'], 'us')}; all in one "
            f"call {harness.shown(of['predict_batched_us'], 'us a sample')}",
        ]
    return made


if __name__ == "__main__":
    harness.run(__doc__, measure, lines)
