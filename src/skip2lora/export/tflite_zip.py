"""The zip of further files that a .tflite file may carry behind its tables."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Sequence

from skip2lora.errors import ModelError
from skip2lora.files import label_lines


def with_labels(content: bytes, n_old: int, names: Sequence[str] | None, path: object) -> bytes:
    """``content`` whose lists of ``n_old`` classes have these names.

    Raises:
        ModelError: it has such lists, and there are no names.
    """
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
        start = min((info.header_offset for info, _ in members), default=len(content))
    lists = {info.filename for info, data in members if _n_lines(info.filename, data) == n_old}
    named = {name for name in lists if "label" in name.lower()}
    lists = named or (lists if len(lists) == 1 else set())  # another text may have as many lines
    if not lists:
        return content
    if names is None:
        raise ModelError(
            f"{path} has names of its {n_old} classes inside ({', '.join(sorted(lists))}), "
            "expected names of the classes that were learned: pass class_names"
        )
    buffer = io.BytesIO()
    buffer.write(content[:start])
    text = label_lines(names)
    with zipfile.ZipFile(buffer, "a") as archive:
        for info, data in members:  # stored as they are, so that readers may map them
            info.compress_type = zipfile.ZIP_STORED
            archive.writestr(info, text if info.filename in lists else data)
    return buffer.getvalue()


def _n_lines(name: str, data: bytes) -> int:
    """Lines of a text that are not empty, -1 of another file."""
    if not name.endswith(".txt"):
        return -1
    return sum(1 for line in data.decode(errors="replace").splitlines() if line.strip())


def moved(old: bytes, by: int) -> bytes:
    """The old file, whose zip of further files, if one is appended, knows that it was moved."""
    end = old.rfind(b"PK\x05\x06")
    if end < 0 or not zipfile.is_zipfile(io.BytesIO(old)):
        return old
    n_entries, _, at = struct.unpack_from("<HII", old, end + 10)
    changed = bytearray(old)
    if old[at : at + 4] != b"PK\x01\x02":
        return old  # its offsets count from the start of the zip, as they do still
    struct.pack_into("<I", changed, end + 16, at + by)
    for _ in range(n_entries):
        name, extra, comment = struct.unpack_from("<HHH", old, at + 28)
        local = struct.unpack_from("<I", old, at + 42)[0]
        struct.pack_into("<I", changed, at + 42, local + by)
        at += 46 + name + extra + comment
    return bytes(changed)
