"""Tables of numbers that modules name stand here a second time: a change of one is on purpose."""

from __future__ import annotations

import ast
from typing import Any

from package_modules import files, is_number

#: By module, what it names at its top and writes out.
TABLES: dict[str, dict[str, Any]] = {
    "arrays": {"_UNITS": {"": 1, "b": 1}},
    "backbones.derived": {"POWERS": {"square": 2, "cube": 3, "fourth-power": 4}},
    "backbones.inputs": {
        "KEYWORDS": {
            "attention_mask": 1,
            "src_key_padding_mask": 0,
            "key_padding_mask": 0,
            "padding_mask": 0,
        }
    },
    "backbones.litert.file": {
        "_WEIGHTED": {
            "FULLY_CONNECTED": ((0, 1),),
            "CONV_2D": ((0, 1),),
            "DEPTHWISE_CONV_2D": ((0, 1),),
            "TRANSPOSE_CONV": ((2, 1),),
            "BATCH_MATMUL": ((0, 1), (1, 0)),
        }
    },
    "backbones.litert.sound": {
        "_WINDOWS": {
            "CONV_2D": 0,
            "DEPTHWISE_CONV_2D": 0,
            "AVERAGE_POOL_2D": 0,
            "MAX_POOL_2D": 0,
            "L2_POOL_2D": 0,
        }
    },
    "backbones.masks": {"_TOKENS": (12, 96)},
    "backbones.onnx.anatomy": {"_LABELS": (2, 3, 4, 5, 6, 7, 8, 9, 12, 13)},
    "backbones.onnx.branches": {"_LENGTHS": ((12, 20), (576, 960))},
    "backbones.onnx.ends": {"_FLOATS": (1, 10, 11, 16)},
    "backbones.onnx.probe": {
        "_N_TOKENS": (9, 2, 0),
        "_PLACES": (224, 256),
        "_LENGTHS": ((12, 20), (576, 960)),
    },
    "backbones.openvino.graph": {
        "_WEIGHTS": {
            "Convolution": 1,
            "GroupConvolution": 1,
            "ConvolutionBackpropData": 1,
            "GroupConvolutionBackpropData": 1,
            "DeformableConvolution": 2,
            "MatMul": 1,
            "Einsum": 1,
            "LSTMSequence": 4,
            "GRUSequence": 3,
            "RNNSequence": 3,
            "LSTMCell": 3,
            "GRUCell": 2,
            "RNNCell": 2,
        },
        "_STATES": {
            "LSTMSequence": 2,
            "GRUSequence": 1,
            "RNNSequence": 1,
            "LSTMCell": 2,
            "GRUCell": 1,
            "RNNCell": 1,
        },
    },
    "backbones.openvino.inputs": {
        "_SAMPLES": (2, 3),
        "_PLACES": (224, 256, 320),
        "_TOKENS": (12, 20, 576),
    },
    "backbones.openvino.probe": {"_SIZES": (0, 2)},
    "bench": {"FAN_WIDTHS": (256, 96, 96, 3)},
    "data.image_layout": {"CHANNELS": (1, 3)},
    "data.image_options": {
        "IMAGENET_MEAN": (0.485, 0.456, 0.406),
        "IMAGENET_STD": (0.229, 0.224, 0.225),
    },
    "data.sensor_files": {
        "UNITS": {"s": 1.0, "ms": 0.001, "us": 1e-06, "ns": 1e-09},
        "_EPOCH": {"s": 1000000000.0, "ms": 1000000000000.0, "us": 1000000000000000.0, "ns": 1e18},
    },
    "data.text": {"_WORDS": {"true": 1.0, "false": 0.0}},
    "datasets.har": {"DRIFTED": (9, 14, 16, 19, 25)},
    "datasets.simulated": {
        "SPEEDS_RPM": (2500, 2000, 1500, 0),
        "_VENTILATED_RESONANCES_HZ": (35.0, 185.0, 230.0),
    },
    "demo": {"HIDDEN": (96, 96)},
    "export.c_folder": {
        "ROWS": {"float32": 0, "float16": 1, "int8": 2},
        "_CODE_BYTES": {
            "": 22016,
            "DERIVED": 512,
            "MAPS": 3072,
            "ACTIVATIONS": 1024,
            "RECURRENT": 2048,
            "SLOTS": 768,
        },
    },
    "export.c_layers": {
        "FUNCTIONS": {
            "Clip": 1,
            "LeakyRelu": 2,
            "Sigmoid": 3,
            "Tanh": 4,
            "HardSigmoid": 5,
            "HardSwish": 6,
        }
    },
    "export.check": {"_HALVES": (10, 16), "_OPEN_SIZES": (64, 8, 224), "_N_TOKENS": (2, 0)},
    "export.tflite_nodes": {
        "_REAL_OF": {"uint8": 1, "int8": 2, "int16": 3, "float16": 3},
        "_WHOLE_OF": {"uint8": 1, "int8": 1, "int16": 2},
    },
    "paper.proxyless": {"HALVED_INTO": (32, 40, 80)},
    "paper.tables": {"TESTED_EPOCHS": (0, 1, 2, 5, 10, 20, 50, 100)},
    "paper.tinytl": {
        "LEARNING_RATES": (0.005, 0.001, 0.0002),
        "PRETRAIN_EPOCHS": {"damage1": 10, "damage2": 10, "har": 2},
    },
    "power.find": {"DEFAULT_I2C": (1, 64)},
    "serve.mqtt": {"_PORTS": {"mqtt": 1883, "mqtts": 8883}},
}

#: Its numbers are those of the paper's text, which tests/paper/test_printed.py holds them to.
PAPER = "paper.printed"


def is_table(value: object) -> bool:
    """A number, or several, however deep; no truth value."""
    if isinstance(value, tuple | dict):
        parts = value.values() if isinstance(value, dict) else value
        return bool(value) and all(map(is_table, parts))
    return is_number(value)


def tables(text: str) -> dict[str, Any]:
    """By name, those that are written out."""
    written = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(
            node.value, ast.Dict | ast.Tuple
        ):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            try:
                value = ast.literal_eval(node.value)
            except ValueError:
                continue
            if isinstance(target, ast.Name) and is_table(value):
                written[target.id] = value
    return written


def test_tables_of_numbers_are_those_that_stand_here() -> None:
    texts = {module: file.read_text(encoding="utf-8") for module, file in files().items()}
    written = {module: of for module, text in texts.items() if (of := tables(text))}
    assert written.pop(PAPER)
    assert written == TABLES


def test_what_is_a_table() -> None:
    text = "a = {'x': (1, 2.5)}\nb = 3\nc: tuple = (1, -2)\nd = (True,)\ne = (1, len('x'))\nf = ()"
    assert tables(text) == {"a": {"x": (1, 2.5)}, "c": (1, -2)}
