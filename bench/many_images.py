"""Many images through a large ONNX model: adapt as a whole against the runtime's passes alone.

    python bench/many_images.py MODEL.onnx [--samples 10000] [--size 224] [--passes 500] [--json]
        [--options="--memory 2GB"]

JPEG files of ten classes, made by chance. Each line is a process of its own, of which the system
says CPU seconds and the most memory: ``adapt``, the command with such options; ``reading``, its
images alone, decoded as it does; ``passes`` of ONNX Runtime with one thread and the model as it is,
one image at a time, on ``--passes`` of the same images, before and after the others, times what
there are of all. ``ratio`` is of adapt without reading to passes, ``with_reading`` to both.
"""

from __future__ import annotations

import one_thread  # noqa: F401, first

# isort: split
import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

N_CLASSES, COARSE = 10, 12


def make(folder: Path, n_samples: int, size: int) -> None:
    """Coarse colours of a class under those of an image, with noise, as JPEG."""
    from PIL import Image

    random = np.random.default_rng(0)
    classes = random.integers(0, 256, (N_CLASSES, COARSE, COARSE, 3)).astype(np.float32)
    for number in range(n_samples):
        label = number % N_CLASSES
        place = folder / f"class{label}"
        place.mkdir(exist_ok=True)
        own = random.integers(0, 256, classes[0].shape)
        coarse = Image.fromarray(np.uint8(0.4 * classes[label] + 0.6 * own))
        fine = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), np.int16)
        noisy = fine + random.integers(-16, 17, fine.shape, np.int16)
        Image.fromarray(np.uint8(noisy.clip(0, 255))).save(place / f"{number:06}.jpg", quality=90)


def opened(model: Path, folder: Path) -> Any:
    """The images as adapt reads them, none of them read yet."""
    import skip2lora as s2
    from skip2lora.data.image_layout import layout_of
    from skip2lora.data.images import Images
    from skip2lora.data.reading import read_table

    return read_table(folder, images=Images(), layout=layout_of(s2.load(model).inputs)).x


def read_all(model: Path, folder: Path) -> dict[str, float]:
    """CPU seconds of reading all images, a part at a time."""
    from skip2lora.data.lazy import parts_of, read

    x = opened(model, folder)
    began = time.process_time()
    for part in parts_of(x, len(x)):
        read(x[part])
    return {"cpu_s": time.process_time() - began}


def pass_some(model: Path, folder: Path, n_passes: int) -> dict[str, float]:
    """CPU seconds of an image through the model, as the runtime does it alone."""
    import onnxruntime

    x = opened(model, folder)
    images = x[np.linspace(0, len(x) - 1, n_passes).astype(np.intp)].read()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    session.run(None, {name: images[:1]})
    began = time.process_time()
    for at in range(len(images)):
        session.run(None, {name: images[at : at + 1]})
    return {"ms": 1e3 * (time.process_time() - began) / len(images)}


def adapt(model: Path, folder: Path, options: list[str]) -> dict[str, float]:
    """CPU seconds and peak memory of the command, as the system counts them."""
    with tempfile.TemporaryDirectory() as place, Path(place, "said").open("w") as said:
        command = [sys.executable, "-m", "skip2lora", "adapt", str(model), str(folder)]
        began = time.perf_counter()
        started = subprocess.Popen([*command, "-o", f"{place}/a", "--json", *options], stdout=said)
        _, status, usage = os.wait4(started.pid, 0)
        took = time.perf_counter() - began
        if status:
            raise SystemExit(f"adapt ended with status {status}")
        facts = json.loads(Path(place, "said").read_text())
    return {
        "cpu_s": usage.ru_utime + usage.ru_stime, "wall_s": took,
        "peak_mb": usage.ru_maxrss * 1024 / 1e6, "n_forwards": facts["n_forwards"],
    }  # fmt: skip


def alone(part: str, asked: argparse.Namespace, folder: Path) -> dict[str, float]:
    """What a process of this script says of one ``part``."""
    command = [sys.executable, __file__, str(asked.model), "--part", part, "--folder", str(folder)]
    done = subprocess.run(
        [*command, "--passes", str(asked.passes)], check=True, capture_output=True, text=True
    )
    of_part: dict[str, float] = json.loads(done.stdout)
    return of_part


def compared(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    before = alone("passes", asked, folder)["ms"]
    adapted = adapt(asked.model, folder, shlex.split(asked.options))
    reading = alone("reading", asked, folder)["cpu_s"]
    each = (before, alone("passes", asked, folder)["ms"])
    passes = sum(each) / 2 * asked.samples / 1e3
    return {
        "model": asked.model.name, "samples": asked.samples, "options": asked.options,
        "ratio": (adapted["cpu_s"] - reading) / passes,
        "with_reading": adapted["cpu_s"] / (passes + reading),
        "adapt": adapted, "reading_cpu_s": reading, "passes_cpu_s": passes, "pass_ms": each,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--passes", type=int, default=500)
    parser.add_argument("--folder", type=Path, help="where images are, or are made if it is new")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--part", choices=("passes", "reading"), help=argparse.SUPPRESS)
    parser.add_argument("--options", default="", help="of adapt, as in a shell")
    asked = parser.parse_args()
    if asked.part == "passes":
        print(json.dumps(pass_some(asked.model, asked.folder, asked.passes)))
        return
    if asked.part == "reading":
        print(json.dumps(read_all(asked.model, asked.folder)))
        return
    with tempfile.TemporaryDirectory() as made:
        folder = asked.folder or Path(made) / "images"
        if not folder.is_dir():
            folder.mkdir()
            make(folder, asked.samples, asked.size)
        facts = compared(asked, folder)
    if asked.json:
        print(json.dumps(facts))
        return
    print("\n".join(f"{name:14} {value}" for name, value in facts.items()))


if __name__ == "__main__":
    main()
