"""An image or video that cannot be read, and why: of many, such are left out and named."""

from __future__ import annotations

from pathlib import Path

from skip2lora.errors import DataError


class UnusableError(DataError):
    """A file that cannot be read as samples; ``reason`` says why."""

    def __init__(self, file: Path, reason: str, kind: str = "an image") -> None:
        self.name, self.reason = "/".join(file.parts[-2:]), reason
        whole = "image such as .png or .jpg" if kind == "an image" else "video such as .mp4"
        super().__init__(
            f"{self.name} cannot be read as {kind} ({reason}), expected a whole {whole}: replace "
            "or remove it"
        )
