"""The block of bytes against the core that reads it, and records that come back."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

import skip2lora as s2
from skip2lora import _core
from skip2lora.errors import ModelError
from skip2lora.export.c_blob import quantised, read_adapters
from skip2lora.export.c_network import network_of

WIDTHS = (7, 6, 5, 3)


def device(content: bytes, rank: int = 2) -> _core.Device:
    return _core.Device(content, 8, 0, rank, True, 4, 0.1, 0, "scalar")


@pytest.fixture
def content(make_model) -> bytes:
    return network_of(make_model(WIDTHS)).to_bytes()


def test_the_core_reads_what_is_written(make_model, make_samples) -> None:
    model, (x, _) = make_model(WIDTHS), make_samples(20, WIDTHS[0])
    for weights, tolerance in (("float32", 1e-6), ("int8", 0.05)):
        content = network_of(model).to_bytes(weights=weights)
        logits = np.empty((20, 3), np.float32)
        device(content).predict(x, logits)
        np.testing.assert_allclose(logits, model.logits(x), rtol=tolerance, atol=tolerance)


def test_int8_is_a_quarter(make_model) -> None:
    network = network_of(make_model((256, 96, 96, 3)))
    whole, small = len(network.to_bytes()), len(network.to_bytes(weights="int8"))
    n_weights = 256 * 96 + 96 * 96 + 96 * 3
    assert whole - small == 3 * n_weights - 4 * (96 + 96 + 3)


def test_weights_become_the_nearest_of_255() -> None:
    weight = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    weight[:, 3] = 0
    codes, scale = quantised(weight)
    assert np.abs(codes).max() == 127
    assert (np.abs(codes * scale - weight) <= scale * 0.5001).all()
    assert not codes[:, 3].any()


def test_every_byte_counts(content) -> None:
    for at in range(0, len(content), 5):
        changed = bytearray(content)
        changed[at] ^= 4
        with pytest.raises(ValueError, match="no network"):
            device(bytes(changed))
    with pytest.raises(ValueError, match="no network"):
        device(content[:-1])


def test_nan_is_refused(make_model, refused) -> None:
    model = make_model(WIDTHS)
    layers = [list(layer.copy()) for layer in model.layers]
    layers[1][0][2, 2] = np.nan
    network = network_of(model.with_layers(layers))
    assert "the network has NaN or infinity" in refused(ModelError, network.to_bytes)


def test_a_record_comes_back(content, make_samples, refused) -> None:
    of = device(content)
    x, y = make_samples(8, WIDTHS[0])
    assert of.add(x, y.astype(np.int32)) == 8
    for _ in range(5):
        of.epoch()
    record, widths = of.adapters(), WIDTHS[:-1]
    adapters = read_adapters(record, widths, 3, content)
    logits = np.empty((8, 3), np.float32)
    of.predict(x, logits)
    assert adapters.bias is not None
    base = np.empty((8, 3), np.float32)
    device(content).predict(x, base)
    assert np.abs(logits - base).max() > 0.01
    for at in range(0, len(record), 3):
        changed = bytearray(record)
        changed[at] ^= 1
        said = refused(ModelError, read_adapters, bytes(changed), widths, 3, content)
        assert "is damaged or of another version" in said
    said = refused(ModelError, read_adapters, record[:20], widths, 3, content)
    assert "is damaged" in said
    other = bytearray(content)
    other[12] ^= 1
    assert "of another network" in refused(
        ModelError, read_adapters, record, widths, 3, bytes(other)
    )


def test_the_checksum_is_the_usual_one(content) -> None:
    own = struct.unpack("<I", content[12:16])[0]
    assert own == zlib.crc32(content[:12] + content[16:])


def test_a_device_of_the_core_checks_its_arguments(content, make_model) -> None:
    x, y = np.zeros((3, 7), np.float32), np.zeros(3, np.int32)
    of = device(content)
    for shapes in ((x[:, :5].copy(), y), (x, y[:2].copy())):
        with pytest.raises(ValueError, match="have other shapes"):
            of.add(*shapes)
    with pytest.raises(ValueError, match="have other shapes"):
        of.predict(x, np.zeros((3, 4), np.float32))
    with pytest.raises(ValueError, match="out of its range"):
        device(content, rank=1000)
    with pytest.raises(RuntimeError, match="refused its arguments"):
        of.epoch()
    assert of.arena_bytes > 0
    alone = network_of(s2.MLP.create(WIDTHS), taps_only=True).to_bytes()
    of = device(alone)  # of which the size is known, and no more
    assert of.arena_bytes > 0
    assert of.add(np.zeros((3, 0), np.float32), y) == 0


def test_taps_as_many_as_a_device_can_have(make_model, refused) -> None:
    widths = [3] * 32
    assert len(network_of(make_model((*widths, 2))).tap_widths) == 32
    said = refused(ModelError, network_of, make_model((*widths, 3, 2)))
    assert "has 33 taps, expected at most 32 on a device" in said


def test_two_classes_are_enough(make_model) -> None:
    assert network_of(make_model((4, 3, 2))).n_outputs == 2


def test_weights_of_a_layer_fill_whole_words(make_model) -> None:
    """int8 codes are followed by zeros up to four bytes, for every remainder."""
    for n_in in range(1, 6):
        network = network_of(make_model((n_in, 3), batch_norm=False))
        content = network.to_bytes(weights="int8")
        codes, scale = quantised(network.layers[0].weight)
        body = content[64 + 4 + 16 :] if len(content) % 4 == 0 else b""
        want = codes.astype(np.int8).tobytes()
        assert body.startswith(want + bytes(-len(want) % 4) + scale.tobytes())


@pytest.mark.parametrize("bias", [0, 1])
def test_a_record_is_read_array_by_array(bias: int) -> None:
    """As docs/c-blob.md lays it out: of each tap A, then B, and the bias at the end."""
    blob = bytes(12) + struct.pack("<I", 77)
    widths, rank, n_outputs = (2, 3), 2, 3
    n_floats = rank * (2 + 3) + rank * (3 + 3) + bias * n_outputs
    values = np.arange(n_floats, dtype="<f4")
    head = struct.pack("<3I", 0x32415053, 1, 32 + 4 * n_floats)
    rest = struct.pack("<4I", 77, rank, bias, 0) + values.tobytes()
    record = head + struct.pack("<I", zlib.crc32(rest, zlib.crc32(head))) + rest
    adapters = read_adapters(record + b"behind it", widths, n_outputs, blob)
    pairs = list(zip(adapters.lora_a, adapters.lora_b, strict=True))
    got = [array.ravel().tolist() for pair in pairs for array in pair]
    ends = [4, 10, 16, 22]
    assert got == [values[a:b].tolist() for a, b in zip([0, *ends], ends, strict=False)]
    assert (adapters.rank, adapters.first_tap) == (rank, 0)
    assert (adapters.bias is not None) == bool(bias)
    if adapters.bias is not None:
        assert adapters.bias.tolist() == [22, 23, 24]
