"""An adapter folder as a message, and back. Nothing else than these two files ever travels."""

from __future__ import annotations

from pathlib import Path

from flwr.app import ConfigRecord

FILES = ("adapter_config.json", "adapter_model.safetensors")


def packed(folder: Path) -> ConfigRecord:
    """The two files of an adapter folder, by name."""
    return ConfigRecord({name: (folder / name).read_bytes() for name in FILES})


def unpacked(record: ConfigRecord, folder: Path) -> Path:
    """Write what came; names are ours, whatever the message says."""
    folder.mkdir(parents=True)
    for name in FILES:
        content = record[name]
        if not isinstance(content, bytes):
            raise TypeError(f"{name} is {type(content).__name__}, expected bytes")
        (folder / name).write_bytes(content)
    return folder


def n_bytes(record: ConfigRecord) -> int:
    """Bytes of the files in a message."""
    return sum(len(content) for content in record.values() if isinstance(content, bytes))
