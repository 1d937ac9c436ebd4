"""A file that cannot be read is named with its folder, which is its class, and the reason."""

from __future__ import annotations

from pathlib import Path

from skip2lora.data.unusable import UnusableError


def test_messages() -> None:
    error = UnusableError(Path("/field/fox/a.png"), "cut off")
    assert (error.name, error.reason) == ("fox/a.png", "cut off")
    assert str(error) == (
        "fox/a.png cannot be read as an image (cut off), expected a whole image such as .png or "
        ".jpg: replace or remove it"
    )
    assert UnusableError(Path("a.png"), "cut off").name == "a.png"
    assert "a.mp4 cannot be read as a video (no frame), expected a whole video such as .mp4" in str(
        UnusableError(Path("a.mp4"), "no frame", "a video")
    )
