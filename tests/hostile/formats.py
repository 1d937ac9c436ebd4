"""Every format that the package reads: whole files of it, and what reads them."""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import skip2lora as s2
from skip2lora.backbones.mlp import Layer
from skip2lora.cli import run
from skip2lora.data.image_options import Images
from skip2lora.data.reading import read_samples
from skip2lora.data.sensor_options import Sensors
from skip2lora.paper.trials import VERSION, read_trial

#: Files of one folder, by name.
Files = dict[str, bytes]
X = np.random.default_rng(0).normal(size=(12, 9)).astype(np.float32)
Y = np.arange(12) % 3


@dataclass(frozen=True)
class Format:
    """``seeds`` are folders of whole files, ``read`` takes the first file of one, or its folder."""

    write: Callable[[Path, int], object]
    read: Callable[[Path], object]
    needs: tuple[str, ...] = ()
    #: What of a folder is read, the whole when "".
    file: str = ""
    #: What is damaged, all files when "".
    damaged: str = ""

    @property
    def is_there(self) -> bool:
        return all(importlib.util.find_spec(name) is not None for name in self.needs)

    def seeds(self) -> list[Files]:
        found = []
        for number in (0, 1):
            with tempfile.TemporaryDirectory() as room:
                folder = Path(room)
                self.write(folder, number)
                paths = sorted(path for path in folder.rglob("*") if path.is_file())
                found.append({str(p.relative_to(folder)): p.read_bytes() for p in paths})
        return found


def _mlp(seed: int) -> s2.MLP:
    random = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(np.float32)

    layers = (
        Layer(weight=normal(9, 6), bias=normal(6)),
        Layer(weight=normal(6, 3), bias=normal(3)),
    )
    return s2.MLP(layers, class_names=("stop", "normal", "damaged") if seed else None)


def _run_model(path: Path) -> None:
    model = s2.load(path)
    feed: Any = {
        spec.name: np.ones((2, *(n if isinstance(n, int) else 4 for n in spec.shape)), spec.dtype)
        for spec in model.inputs
    }
    model.forward(model.check(feed if len(feed) > 1 else next(iter(feed.values()))))


def _look(path: Path) -> None:
    """As the command does."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()) as said,
    ):
        code = run(["inspect", str(path)])
    if code not in (0, 2) or (code == 2 and not said.getvalue().strip()):
        raise RuntimeError(f"inspect exits with {code}: {said.getvalue()[-300:]}")


def read(of: Format, path: Path, look: bool) -> None:
    """One way or the other."""
    if look and of.read is not read_trial:
        _look(path)
    else:
        of.read(path)


def _samples(path: Path) -> None:
    read_samples(path, task=None, labels_required=False)


def _npz(folder: Path, number: int) -> None:
    if number:
        np.savez_compressed(folder / "d.npz", X=X, y=np.array(["a", "bb", "c"])[Y],
                            feature_names=np.array([f"f{at}" for at in range(9)]))  # fmt: skip
    else:
        np.savez(folder / "d.npz", X=X, y=Y)


def _text(number: int, packed: bool) -> bytes:
    cells = [[f"{value:.3f}" for value in row] for row in X]
    rows = [[f"f{at}" for at in range(9)] + ["label"]]
    rows += [[*row, str(y) if number else f"class {y}"] for row, y in zip(cells, Y, strict=True)]
    text = "\n".join((";" if number else ",").join(row) for row in rows).encode()
    return gzip.compress(text, mtime=0) if packed else text


def _csv(folder: Path, number: int) -> None:
    (folder / "d.csv").write_bytes(_text(number, False))


def _packed(folder: Path, number: int) -> None:
    (folder / "d.csv.gz").write_bytes(_text(number, True))


def _parquet(folder: Path, number: int) -> None:
    import pyarrow
    from pyarrow import parquet

    columns: dict[str, Any] = {f"f{at}": X[:, at] for at in range(9)}
    columns["label"] = [f"class {y}" for y in Y] if number else Y
    kind: Any = "snappy" if number else "none"
    parquet.write_table(pyarrow.table(columns), folder / "d.parquet", compression=kind)


def _pictures(folder: Path) -> None:
    read_samples(folder, task=None, images=Images(size=(8, 6)))


def _images(suffix: str, **options: Any) -> Format:
    def write(folder: Path, number: int) -> None:
        from PIL import Image

        random = np.random.default_rng(number)
        for name in ("a/0", "a/1", "b/0"):
            shape = (8, 6, 3) if number == 0 else (8, 6)
            picture = Image.fromarray(random.integers(0, 256, shape, np.uint8))
            path = folder / f"{name}{suffix}"
            path.parent.mkdir(exist_ok=True)
            picture.save(path, **(options if number else {}))

    return Format(write, _pictures, ("PIL",), damaged=f"a/0{suffix}")


def _windows(path: Path) -> None:
    read_samples(path, task=None, labels_required=False, images=Sensors(window=2))


def _rows(folder: Path, number: int) -> None:
    rows = [",".join(["time", "a", "b", "who"])]
    rows += [f"{at / 50},{a:.3f},{b:.3f},p{at // 6 * number}" for at, (a, b) in enumerate(X[:, :2])]
    (folder / "s.csv").write_text("\n".join(rows).replace(",who", ",label"))


def _impulse(folder: Path, number: int) -> None:
    from sensor_data import impulse

    path = impulse(folder / "s.json", "walk", n_rows=4 + number)
    if number:
        path.write_text(json.dumps(json.loads(path.read_text()), indent=1))


def _cbor(folder: Path, number: int) -> None:
    import cbor2

    _impulse(folder, number)
    content = json.loads((folder / "s.json").read_text())
    (folder / "s.json").unlink()
    (folder / "s.cbor").write_bytes(cbor2.dumps(content))


def _ts(folder: Path, number: int) -> None:
    channels = [",".join(f"{value:.2f}" for value in row[:4]) for row in X]
    series = [":".join(channels[at : at + 2]) for at in range(0, 12, 2)]
    label = ":up" if number else ""
    head = f"@classLabel {'true up down' if number else 'false'}\n@data\n"
    (folder / "s.ts").write_text(head + "\n".join(line + label for line in series))


def _arff(folder: Path, number: int) -> None:
    head = "".join(f"@attribute f{at} numeric\n" for at in range(4 * (1 - number)))
    rows = [",".join(f"{v:.2f}" for v in row[:4]) for row in X]
    if number:
        head, rows = "@attribute bag relational\n@end bag\n", [f"'{r}\\n{r}'" for r in rows]
    text = [f"{row},{'up' if at % 2 else 'down'}" for at, row in enumerate(rows)]
    head = f"@relation r\n{head}@attribute class {{up,down}}\n@data\n"
    (folder / "s.arff").write_text(head + "\n".join(text))


def _safetensors(folder: Path, number: int) -> None:
    _mlp(number).save(folder / "m.safetensors")


def _adapter(folder: Path, number: int) -> None:
    s2.adapt(_mlp(0), X, Y, epochs=1, rank=number + 1, seed=number).save(folder / "ad")


def _read_adapter(folder: Path) -> None:
    s2.AdaptedModel.load(_mlp(0), folder).predict(X)


def _onnx(folder: Path, number: int) -> None:
    import onnx_models as nets

    nets.save(nets.cnn() if number else nets.mlp(end="Softmax"), folder / "m.onnx")


def _external(folder: Path, number: int) -> None:
    import onnx_models as nets

    nets.save(nets.cnn(seed=number), folder / "m.onnx", external=True)


def _tflite(folder: Path, number: int) -> None:
    import tflite_models as nets

    network = nets.cnn() if number else nets.mlp([9, 16, 3])
    (folder / "m.tflite").write_bytes(network.content())


def _openvino(folder: Path, number: int) -> None:
    import openvino_models as nets

    nets.save(nets.cnn() if number else nets.mlp(end="Softmax"), folder / "m.xml")


def _trial(folder: Path, number: int) -> None:
    numbers = {"accuracy": [0.5, 0.75], "recipe": {"epochs": number}}
    text = json.dumps({"version": VERSION, "numbers": numbers}, indent=1)
    (folder / "t.json").write_text(text, encoding="utf-8")


_ORT = ("onnx", "onnxruntime")
FORMATS = {
    "npz": Format(_npz, _samples, file="d.npz"),
    "csv": Format(_csv, _samples, file="d.csv"),
    "csv.gz": Format(_packed, _samples, file="d.csv.gz"),
    "parquet": Format(_parquet, _samples, ("pyarrow",), "d.parquet"),
    "stream": Format(_rows, _windows, file="s.csv"),
    "impulse": Format(_impulse, _windows, file="s.json"),
    "cbor": Format(_cbor, _windows, ("cbor2",), "s.cbor"),
    "ts": Format(_ts, _windows, file="s.ts"),
    "arff": Format(_arff, _windows, file="s.arff"),
    "png": _images(".png"),
    "jpg": _images(".jpg"),
    "tif": _images(".tif", compression="tiff_lzw"),
    "bmp": _images(".bmp"),
    "gif": _images(".gif"),
    "safetensors": Format(_safetensors, _run_model, file="m.safetensors"),
    "adapter": Format(_adapter, _read_adapter, file="ad"),
    "onnx": Format(_onnx, _run_model, _ORT, "m.onnx"),
    "onnx-external": Format(_external, _run_model, _ORT, "m.onnx"),
    "tflite": Format(_tflite, _run_model, ("ai_edge_litert",), "m.tflite"),
    "openvino": Format(_openvino, _run_model, ("openvino",), "m.xml"),
    "trial": Format(_trial, read_trial, file="t.json"),
}  # fmt: skip
