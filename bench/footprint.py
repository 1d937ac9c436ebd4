"""What the package costs to import, and what `adapt` adds to the peak memory of the process.

    python bench/footprint.py [--rounds 5] [--quick] [--json]

Each number comes from fresh processes. The peak is the kernel's own count (VmHWM on Linux, which
unlike ru_maxrss is of this program alone) after `adapt` on 470 samples of 256 features, less the
peak of the same process before it.
"""

from __future__ import annotations

import harness  # first: one thread

# isort: split
import subprocess
import sys
from typing import Any

IMPORT = """
import time
start = time.perf_counter()
import skip2lora
print(time.perf_counter() - start)
"""

ADAPT = """
import numpy as np
import skip2lora as s2
from skip2lora.system import highest_bytes

random = np.random.default_rng(0)
model = s2.MLP.create([256, 96, 96, 3])
s2.adapt(model, np.zeros((2, 256), np.float32), [0, 1], epochs=1)  # code pages
x = random.standard_normal((470, 256), dtype=np.float32)
y = random.integers(0, 3, 470)
before = highest_bytes()
adapted = s2.adapt(model, x, y, recipe="paper")
print(highest_bytes() - before, adapted.cache_bytes)
"""


def run(code: str) -> list[float]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def measure(arguments: Any) -> dict[str, Any]:
    run(IMPORT)  # warms the file cache
    imports = [run(IMPORT)[0] for _ in range(arguments.rounds)]
    peaks = [run(ADAPT) for _ in range(arguments.rounds)]
    return {
        "import_s": harness.spread(imports),
        "peak_beyond_cache_bytes": harness.spread([peak - cache for peak, cache in peaks]),
        "cache_bytes": peaks[0][1],
    }


def lines(result: dict[str, Any]) -> list[str]:
    beyond = {name: value / 1024 for name, value in result["peak_beyond_cache_bytes"].items()}
    return [
        f"import skip2lora: {harness.shown(result['import_s'], 's')}",
        "adapt, 470 samples: peak memory beyond interpreter, data and the cache of "
        f"{result['cache_bytes'] / 1024:.0f} KiB: {harness.shown(beyond, 'KiB')}",
    ]


if __name__ == "__main__":
    harness.run(__doc__, measure, lines)
