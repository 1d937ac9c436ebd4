"""What the package costs to import, and what `adapt` adds to the peak memory of the process.

    python bench/footprint.py [--rounds 5] [--json]

Each number comes from fresh processes. The peak is the kernel's own count (ru_maxrss) after `adapt`
on 470 samples of 256 features, less the peak of the same process before it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

IMPORT = """
import time
start = time.perf_counter()
import skip2lora
print(time.perf_counter() - start)
"""

ADAPT = """
import resource
import numpy as np
import skip2lora as s2

random = np.random.default_rng(0)
model = s2.MLP.create([256, 96, 96, 3])
s2.adapt(model, np.zeros((2, 256), np.float32), [0, 1], epochs=1)  # code pages
x = random.standard_normal((470, 256), dtype=np.float32)
y = random.integers(0, 3, 470)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
adapted = s2.adapt(model, x, y)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) * 1024, adapted.cache_bytes)
"""


def run(code: str) -> list[float]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    run(IMPORT)  # warms the file cache
    imports = sorted(run(IMPORT)[0] for _ in range(arguments.rounds))
    peaks = [run(ADAPT) for _ in range(arguments.rounds)]
    beyond = sorted(peak - cache for peak, cache in peaks)
    results = {
        "import_s": imports,
        "peak_beyond_cache_bytes": beyond,
        "cache_bytes": peaks[0][1],
    }
    if arguments.json:
        print(json.dumps(results))
        return
    print(
        f"import skip2lora: {statistics.median(imports):.3f} s "
        f"({imports[0]:.3f} to {imports[-1]:.3f})"
    )
    print(
        f"adapt, 470 samples: peak memory beyond interpreter, data and the cache of "
        f"{peaks[0][1] / 1024:.0f} KiB: {statistics.median(beyond) / 1024:.0f} KiB "
        f"({beyond[0] / 1024:.0f} to {beyond[-1] / 1024:.0f})"
    )


if __name__ == "__main__":
    main()
