"""A number that decides is written twice: in its module, and here.

Tolerances, limits and sizes are what a wrong edit changes without a word, and most of them decide
something only far from where tests look. Who means to change one changes it here as well, and says
in the commit what was measured.
"""

from __future__ import annotations

import ast
import importlib
from math import inf
from pathlib import Path
from typing import Any

import pytest

from package_modules import files, is_number
from skip2lora.errors import MissingExtraError

#: Numbers that modules outside ``cli/`` name, by module.
NUMBERS: dict[str, dict[str, Any]] = {
    "adapters.cached": {"_ALIKE": 0.0001, "_SECONDS": 1.0},
    "adapters.coded": {
        "_FLOAT_BYTES": 4, "N_TABLES": 4, "_STAGE_BYTES": 1 << 22, "_MOST_ROWS": 1 << 12,
        "ROWS_AT_ONCE": 256, "_MOST_SPAN": 3e+38, "_MARGIN": 0.25,
    },
    "adapters.folder": {"_TRIES": 200},
    "adapters.kept": {"MOST_VERSIONS": 5},
    "adapters.merging": {"_ROWS": 1024},
    "adapters.projected": {"BYTES_AT_ONCE": 1 << 24},
    "adapters.rows": {
        "_ALIGN_BYTES": 64, "FLOAT_BYTES": 4, "_READ_BYTES": 1 << 20, "_TABLES": 3,
        "_NO_SLOT": 4_294_967_295,
    },
    "adapters.shards": {
        "HEADER_BYTES": 128, "DIGEST_BYTES": 32, "_SEAL_BYTES": 32, "NARROW": 1 << 13,
        "_MANY": 1 << 12, "_FEW": 256, "_BUFFERS": 1024, "_PIECE": 1 << 20, "_CHECKED": 1 << 18,
    },
    "adapters.store": {"_VERSION": 1, "_MOST_OPEN": 64},
    "arrays": {"_ALIGN_BYTES": 64, "_CHUNK": 1 << 16, "MAX_LABEL": 2_147_483_647},
    "backbones.alone": {
        "_SWAYED": 0.0001, "_MOVED": 0.02, "_DYNAMIC": 0.2, "_NOTED": 0.001, "_ROUNDED": 1e-06,
        "_FEW": 4, "_AS_WELL": 10, "N_SAMPLES": 4,
    },
    "backbones.base": {"MOST_THREADS": 1024},
    "backbones.derived": {"_SHARE": 0.01, "_SMALLEST": 1.1754943508222875e-38},
    "backbones.ends": {
        "SAME": 0, "EACH": 1, "SOFTMAX": 2, "SIGMOID": 3, "LARGEST": 4, "JOIN": 5, "LAYER": 6,
        "NUMBERS": 7, "CLOSED": 8, "OTHER": 9, "MOST_STEPS": 64, "_CLOSE": 0.0001,
    },
    "backbones.field_mlp": {"_LEAST": 2},
    "backbones.formats": {"_HEAD_BYTES": 1 << 12},
    "backbones.litert.file": {"_MOST_BYTES": 1 << 31},
    "backbones.litert.runner": {"_CHUNK": 32},
    "backbones.litert.sound": {"_SAME": 0},
    "backbones.litert.straight": {"_GRAPHS": 8, "_SIGNATURES": 18, "_OPERATORS": 10},
    "backbones.litert.variables": {"_GRAPHS": 8, "_SIGNATURES": 18, "_INPUTS": 6, "_OPERATORS": 10},
    "backbones.masks": {
        "_MINUS": -65504.0, "COUNTING": -1.0, "_MOST_TRIED": 2, "_MOST_READ": 3, "_EFFECT": 1e-05,
        "_NOTHING": 0.001,
    },
    "backbones.mlp": {"_MAX_LAYERS": 64, "_MAX_WIDTH": 1 << 24},
    "backbones.onnx.backbone": {"_TOKENS": 128},
    "backbones.onnx.branches": {"_MOST_BYTES": 1 << 28, "_MOST_ROUNDS": 16, "_N_TRIED": 8},
    "backbones.onnx.chain": {
        "_MOST_TEXT": 1 << 20, "_MOST_SAMPLES": 1 << 31, "_IR_VERSION": 8,
        "_SMALLEST": 1.1754943508222875e-38, "_LARGEST": 3.4028234663852886e+38,
    },
    "backbones.onnx.ends": {"_BOOL": 9},
    "backbones.onnx.external": {"_EXTERNAL": 1, "_MOST_BEFORE": 20},
    "backbones.onnx.file": {
        "MOST_BYTES": 2_147_483_647, "_ROOM_BYTES": 1 << 24, "_CHUNK_BYTES": 1 << 24,
        "_LARGE_BYTES": 1 << 12, "_MOST_NODES": 100_000, "_OLDEST_OPSET": 7, "_STRING": 9,
        "_MESSAGE": 11,
    },
    "backbones.onnx.graph": {"_LARGE_BYTES": 1 << 16},
    "backbones.onnx.integers": {"_SHIFT": 128},
    "backbones.onnx.probe": {"_MORE": 2, "_SURE": 3, "_MOST_BAKED": 256},
    "backbones.onnx.rows": {"_BLOCK": 8, "_PANEL": 16, "_LARGE_MAP": 100, "_LARGE_STRIP": 200},
    "backbones.onnx.session": {"_QUIET": 4, "_MOST_SAMPLES": 64, "_MOST_FLOATS": 1 << 21},
    "backbones.onnx.tapped": {"_VERSION": 1},
    "backbones.openvino.file": {"_OLDEST": 10},
    "backbones.openvino.probe": {"_N_TOKENS": 2, "_MOST_BAKED": 256},
    "backbones.openvino.rows": {"_MOST_SAMPLES": 64, "_MOST_FLOATS": 1 << 21, "_TOKENS": 128},
    "backbones.outputs": {"_MOST_OUTPUTS": 1 << 20},
    "backbones.taps": {
        "MOST_TAPS": 16, "SAMPLES_AT_ONCE": 256, "FORWARD_AT_ONCE": 64, "GRID": 4,
        "MOST_WIDTH": 1 << 12, "_MOST_GRID": 64,
    },
    "backbones.torch.inputs": {"_LOOKED_AT": 1 << 12},
    "backbones.torch.mixing": {"_MOST_NUMBERS": 1 << 20},
    "backbones.torch.network": {"_MOST_PLACES": 3},
    "backbones.torch.trail": {"_MOST": 96},
    "bench": {
        "N_SAMPLES": 470, "N_SAMPLES_ELSEWHERE": 64, "OPEN_SIZE": 64, "_NEW_OUTPUTS": 2,
        "_LEARNING_RATE": 1e-05, "_MOST_SAMPLES": 1_000_000, "_MOST_SECONDS": 60, "_SINGLE": 200,
    },
    "data.crop_options": {"CONFIDENCE": 0.2, "_MOST_MARGIN": 10.0},
    "data.detections": {"_MOST_SHARE": 2},
    "data.image_files": {"_ORIENTATION": 274},
    "data.image_layout": {"MOST_PIXELS": 1 << 14},
    "data.image_options": {"_LEAST_SECONDS": 0.001},
    "data.joined": {"DIGEST_BYTES": 32},
    "data.known": {
        "MARGIN_NS": 5_000_000_000, "_BYTES": 32, "_HEAD": 2, "LEAST_BYTES": 1 << 12,
        "_BLOCK_BYTES": 1 << 12, "_KEY_WORDS": 1030, "_SUMS": 4, "_NPY_BYTES": 128,
        "_MOST_PAIRS": 1 << 20,
    },
    "data.lazy": {"READ_BYTES": 1 << 24, "_HASHED_BYTES": 1 << 20},
    "data.npz": {"_LAST_CODE": 1_114_111},
    "data.plain_text": {
        "LEAST_BYTES": 1 << 24, "_BLOCK_BYTES": 1 << 20,
        "_LINE_FEED": 10, "_RETURN": 13, "_MARK": 34,
    },
    "data.recordings": {"_SILENT": 0.0001, "_LEAST": 0.5},
    "data.segments": {"_AFTER": 0.5},
    "data.sensor_clock": {
        "GAP": 3.0, "_UNEVEN": 0.5, "_MOST_UNEVEN": 0.01, "_SAME_RATE": 0.02, "_MOST_GAPS": 0.2,
        "_FEWEST_STEPS": 20, "_YEAR_S": 32000000.0, "_MOST_TIMES": 1000,
    },
    "data.sensor_features": {"_N_STATISTICS": 12, "_MOST_BANDS": 32, "_LEAST": 1e-12},
    "data.sensor_files": {"_ROWS": 1 << 12, "_ROWS_OF_PARQUET": 1 << 16},
    "data.sensor_formats": {"_BYTES_EACH": 32},
    "data.sensor_options": {"_MOST_RATE": 1000000000.0, "_MOST_ROWS": 10_000_000},
    "data.sensor_streams": {"_SEARCHED": 1 << 20, "_AT_ONCE": 1024},
    "data.sensor_windows": {"_AT_ONCE": 64},
    "data.sound_files": {
        "_BLOCKS": 50, "_FRAMES": 1 << 18, "_MARGIN": 1 << 12, "_CLIPPED": 0.999,
        "_N_CLIPPED": 0.001, "_UNKNOWN": 2_147_479_552,
    },
    "data.sound_options": {"_MOST_RATE": 1_000_000, "_MOST_WINDOW": 3600.0},
    "data.spool": {"IN_MEMORY": 1 << 24, "_SPARE": 1 << 26},
    "data.spooled": {"BLOCK_BYTES": 1 << 20, "_TOGETHER": 1 << 12},
    "data.stored": {"LEAST_BYTES": 1 << 24, "_LOCAL_HEADER": 30, "_ENCRYPTED": 1},
    "data.tables": {"_BUFFER_BYTES": 1 << 16, "_FLOAT_BYTES": 4, "_BATCH_ROWS": 1 << 16},
    "data.text": {"_SAMPLED": 1000, "_MOST_CHARACTERS": 1 << 26},
    "data.video_files": {"_FAR": 2, "_LATE": 0.5},
    "datasets.fan": {"STOP": 0, "NORMAL": 1, "DAMAGED": 2, "N_LINES": 512, "N_FEATURES": 256},
    "datasets.har": {"N_FEATURES": 561, "N_CLASSES": 6, "N_SUBJECTS": 30, "FROM_TEST": 9},
    "datasets.simulated": {
        "STOP": 0, "NORMAL": 1, "DAMAGED": 2, "N_FEATURES": 256, "_AIR_NOISE": 0.15,
        "_TORN_EDGE": 4.0, "_SENSOR_NOISE": 0.017, "_WALL_NOISE": 0.37, "_WALL_LIMIT_HZ": 200.0,
        "_VENTILATION_HZ": 24.2, "_VENTILATED_GAIN": 0.5,
    },
    "demo": {"PRETRAIN_EPOCHS": 100, "ADAPT_EPOCHS": 300},
    "engine": {"_SECONDS": 10, "_FIRST_WORKER": 30},
    "export.c": {"_CAPACITY": 512, "_BATCH_SIZE": 20, "_NEAR": 0.0001, "_ALIKE": 0.9},
    "export.c_blob": {
        "_MAGIC": 843_927_635, "_HEADER": 64, "_RECORD_MAGIC": 843_141_203, "_RECORD_HEADER": 32,
        "_NORM": 1, "_RELU": 2, "_INT8": 4, "_TAPPED": 8, "MOST_TAPS": 32, "_MOST": 127,
    },
    "export.c_branches": {"_MOST_SLOTS": 8},
    "export.c_folder": {"_A_LINE": 8, "_NEVER": 2.0},
    "export.c_layers": {
        "DENSE": 1, "CONVOLUTION": 2, "MAX_POOL": 3, "AVERAGE_POOL": 4, "TRANSPOSITION": 5,
        "ACTIVATION": 6, "GRU": 7, "LSTM": 8, "SAVE": 9, "EXCHANGE": 10, "ADD": 11,
        "_LARGEST": 3.4028234663852886e+38,
    },
    "export.check": {"SHARE": 0.0001, "ROUNDED_SHARE": 0.05, "_N_SAMPLES": 4},
    "export.onnx_labels": {"_WHERE_OPSET": 9},
    "export.onnx_mlp": {"_OPSET": 17, "_IR_VERSION": 8},
    "export.tflite_front": {"_ALIGNED": 64, "_DATA_ALIGNED": 16, "_MOST_BYTES": 1 << 31},
    "export.tflite_head": {"_ROOM": 1.25},
    "export.tflite_mlp": {"_VERSION": 3},
    "export.tflite_nodes": {"_SIDE_BY_SIDE": 4},
    "fleet.merging": {"MOST_TAPS": 64},
    "paper.figure4": {"AFTER_S": 3.0},
    "paper.protocol": {"RANK": 4, "BATCH_SIZE": 20, "LEARNING_RATE": 0.01},
    "paper.proxyless": {
        "FIRST_CHANNELS": 32, "FEATURE_CHANNELS": 1280, "FIRST_STRIDE": 1, "SIDE_MULTIPLE": 8,
        "CHANNELS_PER_GROUP": 8, "DROPOUT": 0.2, "_NORM_EPS": 0.001, "_BN_MOMENTUM": 0.1,
        "_FEW_GROUPS": 2, "_WS_EPS": 1e-10,
    },
    "paper.report": {"VERSION": 1},
    "paper.timing_tables": {"_IDLE": 0.98},
    "paper.timings": {"_PREDICT_PASSES": 5},
    "paper.tinytl": {
        "_PRETRAIN_RATE": 0.001, "_PATIENCE": 4, "_RUNS": 25, "_HELD_OUT": 5, "_POOLING": 2,
        "_KERNEL": 5, "_GROUPS": 2, "_TEST_BATCH": 100,
    },
    "paper.trials": {"VERSION": 1, "_VALIDATION": 0.2},
    "plan": {
        "DEFAULT_SAMPLES": 500, "_MOST_SAMPLES": 2_147_483_647, "_LEARNING_RATE": 1e-05,
        "_MOST_ROW_BYTES": 1 << 26, "_FILL_SAMPLES": 64, "_FILL_SECONDS": 0.5, "_TURNS": 3,
    },
    "power.find": {"DEFAULT_SHUNT_OHMS": 0.1},
    "power.ina219": {
        "CONFIG": 0, "SHUNT": 1, "BUS": 2, "POWER": 3, "CURRENT": 4, "CALIBRATION": 5,
        "POWER_ON_CONFIG": 14_751, "RUN_CONFIG": 14_807, "CALIBRATION_VALUE": 4_194,
        "_SHUNT_END": 32_000, "_STALE_S": 0.1,
    },
    "power.recording": {"DEFAULT_INTERVAL_S": 0.01, "_EVERY": 5},
    "replacing": {"_LEFT_S": 3600.0, "_AT_FDCWD": -100, "_RENAME_EXCHANGE": 2, "_MOST_LINKS": 40},
    "serve.api": {
        "MOST_WAIT_S": 25, "MOST_SAMPLES": 500, "MOST_LABELS": 1000, "MOST_TEXT": 80,
        "MOST_VALUES": 1 << 16,
    },
    "serve.batching": {"MOST_TOGETHER": 256, "SHORT_S": 0.005, "_LATE": 8, "QUIET_TURNS": 2},
    "serve.database": {"SCHEMA": 1, "LOG_BYTES": 1 << 22},
    "serve.drift": {
        "ROWS": 300, "LEAST": 200, "MOST_COLUMNS": 2048, "LIMIT": 100000.0, "CHANGED": 0.15,
        "STRONG": 0.7, "_FEW": 10,
    },
    "serve.events": {"RECENT": 1000},
    "serve.gate": {"FIRST": 0.05, "LATER": 0.2, "GUARD": 0.02},
    "serve.inference": {"_MOST_TENSORS": 64, "_MOST_AXES": 16},
    "serve.label_studio": {"_MOST_TASKS": 1000},
    "serve.learner": {"_TRIES": 2},
    "serve.learning": {"SUSPECTS_FROM": 40, "_MOST_LETTERS": 100},
    "serve.media": {"_FULL": 32_767, "_BYTES": 2},
    "serve.metrics": {"MOST_CLASSES": 50},
    "serve.mqtt": {
        "MOST_WAITING": 1000, "MOST_WAITING_BYTES": 1 << 24, "MOST_BYTES": 1 << 22,
        "MOST_REF": 1000, "_STATE_S": 1.0, "_KEEPALIVE_S": 30, "_LONGEST_WAIT_S": 60,
    },
    "serve.numbers": {"LEAST": 10, "_MOST_LETTERS": 40, "_MOST": 3.4028234663852886e+38},
    "serve.nursery": {
        "MOST_S": 3600.0, "_LATER_S": 60.0, "NICENESS": 19, "_RATHER": 500, "_LENGTH": 8,
        "_AT_ONCE": 1 << 20, "_DIE_WITH_PARENT": 1,
    },
    "serve.pictures": {"_LEAST_SIDE": 4},
    "serve.planned": {
        "_DOUBLE_BYTES": 8, "_EVENT_BYTES": 1000, "_EVENT_TEXT": 300, "_ANSWER_BYTES": 32,
        "_RECORD_TEXT": 400, "_FOLDER_BYTES": 1 << 13, "_DATABASE_BYTES": 125 << 15,
        "_MEASURED_BYTES": 1 << 22, "_MOST_MEASURED": 128,
    },
    "serve.predicting": {"_LATE": 1000},
    "serve.queue": {"_AMONG": 4, "_AT_ONCE": 256, "_TINY": 1e-12},
    "serve.reference": {"MODES": 4, "LEAST_IN_MODE": 20, "FLOOR": 0.1},
    "serve.samples": {"NOT_ASKED": 0, "ASKED": 1, "SKIPPED": 2, "SLACK": 32},
    "serve.security": {
        "_TOKEN_BYTES": 32, "MOST_WRONG": 10, "_MOST_ADDRESSES": 1024, "MOST_BYTES": 1 << 26,
        "_MINUTE_S": 60.0, "_MOST_DIGITS": 18,
    },
    "serve.server": {"MOST_CONNECTIONS": 512, "_BACKLOG": 1024, "_STOP_S": 5, "_YOUNG": 20_000},
    "serve.service": {"_MOST": 1 << 53},
    "serve.store": {"RESERVED": 100_000, "_LOST_EVENTS": 100, "PRUNED_EVERY": 64},
    "serve.story": {
        "EPOCHS": 100, "N_TRAIN": 470, "N_QUIET": 450, "N_NOISY": 300, "N_BETWEEN": 60,
        "N_LABELS": 60, "ONE_WRONG": 20, "N_BAD": 2, "LAB_ROWS": 10, "N_SAMPLES": 1170,
        "_PATIENCE_S": 60,
    },
    "serve.transport": {"MOST_BYTES": 1 << 16},
    "serve.trial": {"N_SAMPLES": 12, "_CLIENTS": 4, "_WAIT_S": 60},
    "serve.turns": {"_PAUSE": 0.2},
    "serve.unit": {"WATCHDOG_S": 30, "START_S": 60},
    "serve.uploads": {"_HEAD": 12},
    "serve.watched": {"_SCAN_S": 1.0},
    "serve.writer": {"_BATCH": 0.2, "_AGAIN": 0.5, "_MOST_JOBS": 256},
    "system": {"READER_GONE": 141, "_MOST_AT_ONCE": 1 << 24, "_WAIT_S": 1.0, "_PAUSE_S": 0.01},
    "tasks.evaluation": {"_BINS": 15},
    "tasks.targets": {"_MOST_CLASSES": 20},
    "tasks.task": {"_CLOSE_TO_ONE": 0.001, "_FEW": 100},
    "tasks.thresholds": {"NO_PLACE": -1, "NEVER": inf, "FEWEST": 10},
    "tasks.weights": {"_LARGEST": 3e+38},
    "tensors": {"_MOST_HEADER": 1 << 24},
    "training.auto": {"_PENALTY": 0.001, "_LEAST": 0.01, "_NARROW": 8, "_EQUAL": 40},
    "training.beyond": {"BLOCK": 1 << 12, "NARROW": 1 << 13},
    "training.copies": {"_LEAST": 20, "_SHARE": 0.1, "_AT_ONCE": 1 << 17},
    "training.design": {"LANES": 32, "_ALIGN_BYTES": 64},
    "training.exact": {"_TOLERANCE": 1e-05, "_WORSE": 2},
    "training.exact_memory": {
        "MOST_FACTORED": 2048, "_FACTOR_BYTES": 16, "_PENALTIES": 7, "CANDIDATES": 3,
    },
    "training.filled": {"_MOST": 1_000_000},
    "training.fits": {"_FACTOR_FROM": 0.3333333333333333},
    "training.folds": {"N_FOLDS": 4, "_IN_ALL": 1000, "_MOST_FOLDS": 10},
    "training.judged": {"_ROUGH": 0.001, "_RISE": 1.01},
    "training.kmeans": {"_ROUNDS": 100},
    "training.lab_set": {"_MOST": 256},
    "training.mlp_rule": {
        "RANK": 8, "LEARNING_RATE": 0.003, "EPOCHS": 30, "LEAST_STEPS": 1000, "SMOOTHING": 0.1,
        "ENOUGH": 30,
    },
    "training.options": {"DEFAULT_BATCH_SIZE": 20, "_EPS": 1e-08},
    "training.pretraining": {"_BITS": 10, "N_RANGES": 5},
    "training.projection": {"FIRST": 300, "FIRST_BYTES": 1 << 26, "_LEAST": 1e-10},
    "training.reading_time": {"_BYTES": 1 << 24, "_LEAST_ROWS": 32, "_BATCH": 8},
    "training.rehearsal": {"ENOUGH": 3},
    "training.room": {"FEW_COLUMNS": 16, "_DOUBLE_BYTES": 8, "_SPARE": 32, "_PLACE_BYTES": 88},
    "training.skip_job": {
        "_FLOOR": 0.001, "_BITS": 8, "_ROUNDING": 1.52587890625e-05,
        "_TINY": 1.1754943508222875e-38,
    },
    "training.solve_time": {
        "_FIRST": 256, "_LEAST": 8, "_MOST_PRODUCTS": 1000000.0, "_MOST_BYTES": 1 << 26,
        "_SECONDS": 0.4, "_GROWTH": 4, "_PENALTY": 0.01, "_TOLERANCE": 0.001, "_DIRECTIONS": 64,
        "_APART": 0.5, "_NOISE": 0.3,
    },
    "training.stacking": {"_MOST_STEPS": 50, "_TOLERANCE": 1e-09, "_RIDGE": 1e-09},
    "training.suspects": {"UNLIKELY": 0.1, "_SHARE": 0.05, "_FEW": 3},
}  # fmt: skip


def assigned(file: Path) -> set[str]:
    """Names that the module gives a value, at its top."""
    top = ast.parse(file.read_text(encoding="utf-8")).body
    targets = [each for node in top if isinstance(node, ast.Assign) for each in node.targets]
    targets += [node.target for node in top if isinstance(node, ast.AnnAssign)]
    nodes = [node for target in targets for node in ast.walk(target)]
    return {node.id for node in nodes if isinstance(node, ast.Name)}


def numbers(module: str, file: Path) -> dict[str, Any]:
    """By name, as the module has them once it is imported."""
    try:
        content = vars(importlib.import_module(f"skip2lora.{module}".removesuffix(".")))
    except (ImportError, MissingExtraError) as error:
        pytest.skip(f"needs every extra: {error}")
    return {name: content[name] for name in assigned(file) if is_number(content.get(name))}


def test_numbers_that_modules_name_are_those_that_stand_here() -> None:
    named = {module: of for module, file in files().items() if (of := numbers(module, file))}
    assert {module: repr(sorted(of.items())) for module, of in named.items()} == {
        module: repr(sorted(of.items())) for module, of in NUMBERS.items()
    }
