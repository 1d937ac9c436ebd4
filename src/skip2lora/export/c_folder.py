"""The files of an exported folder: templates, sources of the core, the network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from skip2lora.backbones.base import Backbone
from skip2lora.export.c_blob import Network
from skip2lora.export.c_layers import KINDS
from skip2lora.export.c_sources import with_headers

#: How rows are kept, as ``s2_row_type`` numbers them.
ROWS = {"float32": 0, "float16": 1, "int8": 2}
#: What happens with a sample more than there is room for.
WHEN_FULL = {"refuse": "S2_REFUSE", "overwrite": "S2_OVERWRITE_OLDEST"}
#: What a device runs of the core; kernels_neon.c is empty but on ARM with NEON.
SOURCES = (
    "adapter.c", "bn.c", "cache.c", "codes.c", "device.c", "device_record.c", "device_rows.c",
    "dispatch.c", "kernels_neon.c", "kernels_scalar.c", "loss.c",
    "model_dense.c", "model_file.c", "model_forward.c", "model_kinds.c", "optimizer.c", "rng.c",
    "rows.c", "train.c",
)  # fmt: skip
#: What further networks need: whose adapters read logarithms or powers of the sample, or that have
#: other layers than fully connected ones.
#: The bytes of flash are those on a Cortex-M4F, rounded up.
PARTS = {"DERIVED": "model_derived.c"} | {part: source for part, (source, _) in KINDS.items()}
#: What no device calls of the core: the linker cannot see it behind a table of functions.
_LEAN = b"".join(
    b"#ifndef S2_WITHOUT_%b\n#define S2_WITHOUT_%b 1\n#endif\n" % (part, part)
    for part in (b"CODES", b"TARGETS", b"PEAK")
)
#: What firmware may call beside: the exact solver, adapters in flash. Linked where it does.
OFFERED = (
    "cholesky.c", "columns.c", "descent.c", "device_flash.c", "device_settle.c", "device_solve.c",
    "dual_fit.c", "exact.c", "flash.c", "objective.c", "primal.c", "primal_metric.c",
    "primal_rows.c",
)  # fmt: skip
_CODE_BYTES = {
    "": 22_016,
    "DERIVED": 512,
    "MAPS": 3_072,
    "ACTIVATIONS": 1_024,
    "RECURRENT": 2_048,
    "SLOTS": 768,
}
_PLACE = re.compile(r"@([A-Z_]+)@")
_SKETCH = "examples/adapt_example/adapt_example.ino"
_A_LINE = 8  # words of the network
_NEVER = 2.0  # more than any probability


@dataclass(frozen=True)
class Settings:
    """What a device is exported with; :func:`skip2lora.export.c.export_c` says what it means."""

    capacity: int
    rows: str
    when_full: str
    rank: int
    bias: bool
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int


@dataclass(frozen=True)
class About:
    """What people read: the file of the model, what it is, the names of its classes.

    ``least`` are the least probabilities that the adapter to begin with predicts a class from.
    """

    model: str
    summary: str
    names: tuple[str, ...]
    least: tuple[float, ...] | None = None

    @classmethod
    def of(
        cls, backbone: Backbone, network: Network, weights: str, names: Sequence[str],
        least: Sequence[float] | None = None,
    ) -> About:  # fmt: skip
        """Of a model whose outputs have these ``names``."""
        path = backbone.base.path
        model = "a network in memory" if path is None else Path(path).name
        if network.layers:
            widths = [layer.n_in for layer in network.layers if layer.tap_width]
            summary = f"{'-'.join(map(str, [*widths, network.n_outputs]))}, {weights} weights"
        else:
            taps = ", ".join(map(str, network.tap_widths))
            summary = f"taps of {taps} numbers, which the firmware computes"
        if network.projections:
            summary += ", projected taps"
        return cls(model, summary, tuple(names), None if least is None else tuple(least))


def names_of() -> tuple[str, ...]:
    """Of everything that an export, or make in it, writes."""
    own = (
        "README.md", "Makefile", "CMakeLists.txt", "main.c", "model.bin", "library.properties",
        _SKETCH, "example", "build/*",
    )  # fmt: skip
    sources = (
        *with_headers((*SOURCES, *OFFERED, *PARTS.values())),
        "s2_config.h",
        "model.h",
        "model.c",
    )
    return own + tuple(f"src/{name}" for name in sources)


def files_of(
    content: bytes,
    network: Network,
    settings: Settings,
    about: About,
    choices: Mapping[str, int],
    *,
    blob: bool,
) -> dict[str, bytes]:
    """Every file by its path in the folder; ``content`` is the network as a block."""
    values = _values(content, network, settings, about, choices, blob=blob)
    names = ["README.md", "Makefile", "CMakeLists.txt", "main.c", "src/s2_config.h"]
    parts = _parts(network)
    sources = (*SOURCES, *OFFERED, *(PARTS[part] for part in parts))
    whole = {f"src/{name}": text for name, text in with_headers(sources).items()}
    whole["src/kernels.h"] = _LEAN + whole["src/kernels.h"]
    without = "".join(f"#define S2_WITHOUT_{part} 1\n" for part in PARTS if part not in parts)
    whole["src/model_layers.h"] = without.encode() + whole["src/model_layers.h"]
    if blob:
        whole["model.bin"] = content
    else:
        names += ["src/model.h"]
        whole["src/model.c"] = _array(content)
        if network.layers:
            names += ["library.properties", _SKETCH]
    folder = files("skip2lora.export") / "c_templates"
    for name in names:
        text = (folder / name.rpartition("/")[2]).read_text(encoding="utf-8")
        whole[name] = _PLACE.sub(lambda place: values[place[1]], text).encode()
    return whole


def _parts(network: Network) -> tuple[str, ...]:
    """What the network needs of the core beside fully connected layers."""
    has = {part for part, (_, kinds) in KINDS.items()
           if any(layer.kind in kinds for layer in network.layers)}  # fmt: skip
    return tuple(part for part in PARTS if part in has or (part == "DERIVED" and network.derived))


def _values(
    content: bytes,
    network: Network,
    settings: Settings,
    about: About,
    choices: Mapping[str, int],
    *,
    blob: bool,
) -> dict[str, str]:
    """What stands at each @NAME@ of the templates."""
    widths = network.tap_widths_kept
    floats = settings.rank * sum(width + network.n_outputs for width in widths)
    floats += network.n_outputs if settings.bias else 0
    n_numbers = network.n_features or sum(network.tap_widths) + network.n_outputs
    stem = re.sub(r"\W", "_", Path(about.model).stem, flags=re.ASCII)
    arena, names = choices[settings.rows], [text.replace("\n", " ") for text in about.names]
    return {
        "NAME": stem,
        "VERSION": version("skip2lora"),
        "MODEL": about.model,
        "SUMMARY": about.summary,
        "LABELS": ", ".join(names),
        "CLASS_NAMES": ", ".join(map(_quoted, names)),
        "THRESHOLDS": "" if about.least is None else _thresholds(about.least),
        "ABOUT_THRESHOLDS": "" if about.least is None else _ABOUT_THRESHOLDS,
        "N_FEATURES": str(n_numbers),
        "N_FEATURES_TEXT": f"{n_numbers} {'features' if network.layers else 'taps and logits'}",
        "N_OUTPUTS": str(network.n_outputs),
        "MODEL_BYTES": str(len(content)),
        "CODE_BYTES": f"{sum(_CODE_BYTES[part] for part in ('', *_parts(network))):,}",
        "MODEL_WORDS": str(len(content) // 4),
        "MODEL_FILE": "model.bin" if blob else "src/model.c",
        "RECORD_BYTES": str(32 + 4 * floats),
        "ARENA_BYTES": str(arena),
        "SAMPLES_BYTES": f"{settings.capacity * _sample_bytes(network, settings.rows):,}",
        "CAPACITY": str(settings.capacity),
        "CHOICES": "\n".join(
            f"- {rows}: {n_bytes:,} bytes{' (this folder)' if rows == settings.rows else ''}"
            for rows, n_bytes in choices.items()
        ),
        "ROWS": f"S2_ROWS_{settings.rows.upper()}",
        "WHEN_FULL": WHEN_FULL[settings.when_full],
        "RANK": str(settings.rank),
        "HAS_BIAS": str(int(settings.bias)),
        "BATCH_SIZE": str(settings.batch_size),
        "LEARNING_RATE": repr(settings.learning_rate),
        "EPOCHS": str(settings.epochs),
        "SEED": str(settings.seed),
        "EXAMPLES": "" if blob else "; `main.c` shows it, `examples/` has it as an Arduino sketch",
        "INCLUDE_MODEL": "" if blob else '#include "model.h"\n',
        "MODEL_ROOM": _ROOM if blob else "",
        "READ_MODEL": _READ_FILE if blob else _READ_ARRAY,
        "OWN_TAPS": "" if network.layers else _OWN_TAPS,
        "SET_TAPS": "" if network.layers else "    options.taps = own_taps;\n",
    }


#: Parts of the example that differ: the network from a file, or from flash.
_ROOM = "static uint32_t blob[S2_MODEL_BYTES / 4];\n"
_OWN_TAPS = """
/* What the device asks for: taps and base logits of a sample. Here a row holds them, one after the
 * other; firmware has its own runtime compute them, and passes what that reads as x. */
static s2_status own_taps(void *context, const float *given, float *const *taps,
                          float *base_logits) {
    (void)context;
    for (uint32_t k = 0; k < model.n_taps; k++) {
        memcpy(taps[k], given, model.tap_width[k] * sizeof *given);
        given += model.tap_width[k];
    }
    memcpy(base_logits, given, S2_N_OUTPUTS * sizeof *given);
    return S2_OK;
}
"""
_READ_ARRAY = "    s2_status status = s2_model_read(&model, s2_model_words, S2_MODEL_BYTES);\n"
_READ_FILE = """    FILE *file = fopen(S2_MODEL_FILE, "rb");
    const size_t n_bytes = file == NULL ? 0 : fread(blob, 1, sizeof blob, file);
    if (file == NULL || fclose(file) != 0) {
        fprintf(stderr, "cannot read %s\\n", S2_MODEL_FILE);
        return 2;
    }
    s2_status status = s2_model_read(&model, blob, n_bytes);
"""


#: In the README of a folder whose adapter keeps thresholds.
_ABOUT_THRESHOLDS = """
## Thresholds

The adapter to begin with was kept with thresholds: Python says "none of these" where the most
probable class is less probable than its number in `S2_THRESHOLDS` of `src/s2_config.h`. A board
gives logits, and the examples the class of the largest, whatever thresholds. Of logits z with the
largest m, class k has the probability exp(z[k] - m) / (sum of exp(z[i] - m)). The numbers were
chosen for that adapter: once the board has learned, they no longer hold.
"""


def _thresholds(least: Sequence[float]) -> str:
    """The macro; a probability that there is not stands for never."""
    numbers = ", ".join(f"{min(value, _NEVER):#.9g}f" for value in least)
    return (
        "\n/* The adapter to begin with says none of these below these probabilities; 2 is never. "
        f"*/\n#define S2_THRESHOLDS    {{{numbers}}}\n"
    )


def _sample_bytes(network: Network, rows: str) -> int:
    """Of one sample that is kept: its row, or the sample and its row, and its label."""
    widths = network.tap_widths_kept
    if rows == "float32" and not network.projections:
        own = network.taps_sample
        padded = [-(-width // 16) * 16 for width in (*widths[own:], network.n_outputs)]
        return 4 * (sum(padded) + own * widths[0] + 1) + 1
    size = {"float32": 4, "float16": 2, "int8": 1}[rows]
    scales = len(widths) if rows == "int8" else 0
    return -(-sum(widths) * size // 4) * 4 + 4 * (scales + network.n_outputs + 1) + 1


def _quoted(text: str) -> str:
    """A string of C in ASCII."""
    plain = (chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}"
             for byte in text.encode())  # fmt: skip
    return f'"{"".join(plain)}"'


def _array(content: bytes) -> bytes:
    """The block as an array of words, which lies at an address divisible by 4."""
    words = [
        f"0x{int.from_bytes(content[at : at + 4], 'little'):08x}"
        for at in range(0, len(content), 4)
    ]
    lines = [", ".join(words[at : at + _A_LINE]) for at in range(0, len(words), _A_LINE)]
    body = ",\n    ".join(lines)
    head = '/* model.c - the frozen network as a block of bytes. */\n#include "model.h"\n\n'
    return f"{head}const uint32_t s2_model_words[{len(words)}] = {{\n    {body},\n}};\n".encode()
