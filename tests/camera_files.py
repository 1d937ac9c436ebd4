"""A camera's folder: animals somewhere in images, and where a detector, or a person, saw them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COLOURS = {"fox": (220, 110, 30), "hen": (120, 160, 235)}
SIZE = (32, 48)  # height and width
Place = tuple[int, int, int, int]  # x, y, width and height


def scene(path: Path, animals: dict[Place, str], *, seed: int = 0, **options: Any) -> np.ndarray:
    """An image of noise with animals in it, which it returns."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (*SIZE, 3), np.uint8)
    for (x, y, width, height), name in animals.items():
        shade = random.integers(-15, 16, (height, width, 3)) + np.array(COLOURS[name])
        pixels[y : y + height, x : x + width] = np.clip(shade, 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def trail(root: Path, n_each: int = 8, *, seed: int = 0) -> dict[str, list[tuple[Place, str]]]:
    """Images a class, of one animal or two, in a sub-folder each; where they are in which file."""
    random = np.random.default_rng(seed)
    seen: dict[str, list[tuple[Place, str]]] = {}
    for name in COLOURS:
        for at in range(n_each):
            places = {
                (int(left + random.integers(6)), int(random.integers(10)), 12, 14): name
                for left in ((2, 26) if at % 3 == 0 else (10,))
            }
            file = f"{name}/{at}.png"
            scene(root / file, places, seed=seed + 100 * at + len(name))
            seen[file] = list(places.items())
    return seen


def megadetector(path: Path, seen: dict[str, list[tuple[Place, str]]], **more: Any) -> Path:
    """Its batch output: all are animals, and in each image is something it is not sure of."""
    height, width = SIZE
    images = [
        {
            "file": file,
            "detections": [
                {
                    "category": "1", "conf": 0.9,
                    "bbox": [x / width, y / height, w / width, h / height],
                }
                for (x, y, w, h), _ in animals
            ]
            + [{"category": "1", "conf": 0.1, "bbox": [0.0, 0.0, 0.5, 0.5]}],
        }
        for file, animals in seen.items()
    ]  # fmt: skip
    categories = {"1": "animal", "2": "person", "3": "vehicle"}
    content = {"info": {"format_version": "1.6"}, "detection_categories": categories}
    path.write_text(json.dumps(content | {"images": images} | more))
    return path


def coco(path: Path, seen: dict[str, list[tuple[Place, str]]], **more: Any) -> Path:
    """Annotations, whose categories are numbered from 1 in the order of their names."""
    height, width = SIZE
    names = sorted(COLOURS)
    images = [
        {"id": at, "file_name": file, "width": width, "height": height, "seq_id": f"s{at // 2}"}
        for at, file in enumerate(seen)
    ]
    boxes = [
        {
            "image_id": at, "category_id": 1 + names.index(name), "bbox": [*map(float, place)],
            "iscrowd": 0, "area": place[2] * place[3],
        }
        for at, animals in enumerate(seen.values())
        for place, name in animals
    ]  # fmt: skip
    annotations = [{"id": at, **each} for at, each in enumerate(boxes)]
    categories = [{"id": at + 1, "name": name} for at, name in enumerate(names)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content | more))
    return path


def films(root: Path, n_each: int = 3, *, seed: int = 0) -> None:
    """Videos of 2.1 s a class, in a sub-folder each, in which an animal fills the picture."""
    from videos import write

    random = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        for at in range(n_each):
            shade = random.integers(-15, 16, (8, 1, 1, 3)) + np.array(colour)
            pictures = np.clip(np.broadcast_to(shade, (8, *SIZE, 3)), 0, 255).astype(np.uint8)
            write(root / name / f"{at}.mp4", [300 * number for number in range(8)], pictures)
