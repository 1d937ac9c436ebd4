"""Ways to damage a file: bits, ranges, sizes, words, and halves of two files; all from a seed."""

from __future__ import annotations

import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Callable

import numpy as np

Random = np.random.Generator

#: Sizes that are wrong in most places.
_SIZES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1)
#: What text formats may hold in place of a word, and should not.
_WORDS = (
    b"", b"0", b"-1", b"1e999", b"-0.0", b"NaN", b"Infinity", b"null", b"true", b"{}", b"[]",
    b'""', b'"\\ud800"', b"\xff\xfe", b"\xed\xa0\x80", b"\0", b"\n", b'"', b"99999999999999999999",
    b"1e38", b"9" * 5000, b"[" * 5000, b"[" * 400 + b"]" * 400, b'{"a":' * 3000, b"x" * 70_000,
)  # fmt: skip
_WORD = re.compile(rb'-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|"[^"]{0,80}"|[A-Za-z_]+')


def _span(content: bytes, random: Random) -> tuple[int, int]:
    start = int(random.integers(len(content) + 1))
    longest = int(random.choice((4, 64, len(content) + 1)))
    return start, min(start + int(random.integers(1, longest + 1)), len(content))


def flip(content: bytes, _: bytes, random: Random) -> bytes:
    """One to eight bits."""
    changed = bytearray(content)
    for at in random.integers(len(content), size=random.integers(1, 9)) if content else ():
        changed[at] ^= 1 << int(random.integers(8))
    return bytes(changed)


def cut(content: bytes, _: bytes, random: Random) -> bytes:
    """The file ends early, or lacks a range."""
    start, end = _span(content, random)
    return content[:start] + (content[end:] if random.integers(2) else b"")


def repeat(content: bytes, _: bytes, random: Random) -> bytes:
    """A range stands there several times."""
    start, end = _span(content, random)
    return content[:end] + content[start:end] * int(random.integers(1, 4)) + content[end:]


def blank(content: bytes, _: bytes, random: Random) -> bytes:
    """A range of zeros or ones."""
    start, end = _span(content, random)
    byte = (b"\0", b"\xff", b"\x80", b" ")[random.integers(4)]
    return content[:start] + byte * (end - start) + content[end:]


def scramble(content: bytes, _: bytes, random: Random) -> bytes:
    """A range of anything."""
    start, end = _span(content, random)
    return content[:start] + random.bytes(end - start) + content[end:]


def resize(content: bytes, _: bytes, random: Random) -> bytes:
    """One to three numbers of 1 to 8 bytes, as sizes and offsets are stored, become others."""
    changed = bytearray(content)
    for _turn in range(int(random.integers(1, 4))):
        width, order = int(random.choice((1, 2, 4, 8))), ("little", "big")[random.integers(2)]
        near = len(content) + int(random.integers(-2, 3))
        number = int(random.choice(np.array((*_SIZES, max(near, 0)), object)))
        at = int(random.integers(max(len(content) - width, 0) + 1))
        at -= at % width if random.integers(2) else 0
        changed[at : at + width] = (number % 256**width).to_bytes(width, order)  # type: ignore[arg-type]
    return bytes(changed)


def reword(content: bytes, _: bytes, random: Random) -> bytes:
    """One or two numbers, names or words become others."""
    for _turn in range(int(random.integers(1, 3))):
        words = [match.span() for match in _WORD.finditer(content)]
        if words:
            start, end = words[random.integers(len(words))]
            content = content[:start] + _WORDS[random.integers(len(_WORDS))] + content[end:]
    return content


def splice(content: bytes, other: bytes, random: Random) -> bytes:
    """The beginning of one file and the end of another."""
    at = int(random.integers(len(content) + 1))
    start = at if random.integers(2) else int(random.integers(len(other) + 1))
    return content[:at] + other[start:]


WAYS: tuple[Callable[[bytes, bytes, Random], bytes], ...] = (
    flip, cut, repeat, blank, scramble, resize, reword, splice,
)  # fmt: skip


def mutate(content: bytes, other: bytes, random: Random) -> bytes:
    """``content`` damaged in one to three ways; what is packed is damaged inside as often."""
    if random.integers(2):
        unpacked = _inside(content, other, random)
        if unpacked is not None:
            return unpacked
    for _ in range(int(random.choice((1, 1, 1, 2, 3)))):
        content = WAYS[random.integers(len(WAYS))](content, other, random)
    return content


def _inside(content: bytes, other: bytes, random: Random) -> bytes | None:
    """Damage behind a sum or a compression, which would hide the reader of what is inside."""
    if content.startswith(b"\x1f\x8b"):
        return gzip.compress(mutate(gzip.decompress(content), other, random), 1, mtime=0)
    if content.startswith(b"PK"):
        return _in_zip(content, random)
    if content.startswith(b"\x89PNG"):
        return _in_png(content, random)
    return None


def _in_zip(content: bytes, random: Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    names = sorted(members)
    name, other = (names[at] for at in random.integers(len(names), size=2))
    members[name] = mutate(members[name], members[other], random)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for each, data in members.items():
            archive.writestr(zipfile.ZipInfo(each), data)
    return target.getvalue()


def _in_png(content: bytes, random: Random) -> bytes:
    """One chunk is damaged, and its sum is right again."""
    chunks, at = [], 8
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        chunks.append(content[at + 4 : at + 8 + size])
        at += 12 + size
    which = int(random.integers(len(chunks)))
    kind, data = chunks[which][:4], chunks[which][4:]
    chunks[which] = kind + mutate(data, data, random)
    body = ((len(c) - 4).to_bytes(4, "big") + c + zlib.crc32(c).to_bytes(4, "big") for c in chunks)
    return content[:8] + b"".join(body)
