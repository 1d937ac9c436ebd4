"""Tiny videos whose frames are told apart by their shade."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

MILLISECONDS = Fraction(1, 1000)
STEP = 8  # from the shade of a frame to that of the next


def write(
    path: Path, stamps: Sequence[int], pictures: Any = None, *, codec: str = "mpeg4",
    size: tuple[int, int] = (32, 48),
) -> Path:  # fmt: skip
    """A video with a frame at each of ``stamps``, in milliseconds, of (height, width).

    Its frames are ``pictures``, (frames, height, width, 3), or grey: 10, 18, 26 and so on.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    options: Any = {"movflags": "+faststart"} if path.suffix in (".mp4", ".mov") else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=30)
        stream.height, stream.width = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = 5
        stream.time_base = stream.codec_context.time_base = MILLISECONDS
        stream.bit_rate = 2_000_000
        for at, stamp in enumerate(stamps):
            grey = np.full((*size, 3), (10 + STEP * at) % 250, np.uint8)
            pixels = grey if pictures is None else pictures[at]
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = stamp, MILLISECONDS
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def turn(path: Path, degrees: int) -> None:
    """Say in the head of an ``.mp4`` that it is looked at turned clockwise."""
    content = bytearray(path.read_bytes())
    one = 1 << 16
    a, b = {90: (0, one), 180: (-one, 0), 270: (0, -one)}[degrees]
    matrix = struct.pack(">9i", a, b, 0, -b, a, 0, 0, 0, 1 << 30)
    upright = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    at = content.index(upright, content.index(b"tkhd"))
    content[at : at + len(matrix)] = matrix
    path.write_bytes(bytes(content))
