"""No module asks whether a model has a member: the contract says what there is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import skip2lora

SOURCES = Path(skip2lora.__file__).parent
PROBES = ("getattr", "hasattr", "setattr", "delattr")
#: What is probed by file, none of them a model of ours.
ALLOWED = {
    ("__init__.py", "importlib.import_module(_ON_REQUEST[name])"): "a module, by the table",
    ("backbones/loading.py", "importlib.import_module(module)"): "a module, by the table",
    ("backbones/mlp.py", "self"): "fields of a layer, by their names",
    ("backbones/onnx/file.py", "value"): "one message of protobuf or several",
    ("backbones/litert/sound.py", "options"): "a table of the schema, which differ by operator",
    ("backbones/torch/backbone.py", "module"): "a torch module that may be compiled",
    ("backbones/torch/network.py", "module"): "a torch module that may be a layer",
    ("backbones/torch/ends.py", "output"): "what a torch module returns",
    ("data/image_files.py", "image"): "an image of Pillow, which differ by format",
    ("data/image_options.py", "self"): "fields, by their names",
    ("data/sound_options.py", "earlier"): "fields, by their names",
    ("data/sound_options.py", "self"): "fields, by their names",
    ("data/tables.py", "error"): "an error of pyarrow",
    ("datasets/fan.py", "error"): "an error of pooch",
    ("datasets/fan.py", "getattr(error, 'response', None)"): "an error of pooch",
    ("estimators.py", "self"): "what scikit-learn sets for tables alone",
    ("export/tflite_front.py", "of"): "a table of the schema",
    ("export/tflite_front.py", "schema.BuiltinOperator"): "a number, by its name",
    ("export/tflite_nodes.py", "options"): "a table of the schema, which differ by operator",
    ("export/tflite_nodes.py", "schema"): "a table, by its name",
    ("export/tflite_nodes.py", "schema.BuiltinOptions"): "a number, by its name",
    ("paper/timings.py", "os"): "what the system has",
    ("power/host.py", "psutil"): "what the system has",
    ("serve/limits.py", "self"): "fields, by their names",
    ("sklearn.py", "self"): "an estimator before its first fit",
    ("tasks/columns.py", "x"): "a DataFrame, of whatever library",
    ("training/checkpoint.py", "course"): "its values an epoch, by their names",
    ("training/jobs.py", "layer"): "fields of a layer, by their names",
}


def probed(source: str) -> list[str]:
    """What is probed in a module: the first argument of each such call."""
    return [
        ast.unparse(node.args[0])
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PROBES
    ]


@pytest.mark.parametrize(
    "source", ["getattr(model, 'taps', None)", "hasattr(model, name)", "f(getattr(model, 'x'))"]
)
def test_probes_are_seen(source: str) -> None:
    assert probed(source) == ["model"]


def test_nothing_else_is_probed() -> None:
    found = {
        (file.relative_to(SOURCES).as_posix(), what)
        for file in SOURCES.rglob("*.py")
        for what in probed(file.read_text(encoding="utf-8"))
    }
    assert found == set(ALLOWED), "define the member in skip2lora.Backbone, or say why here"
