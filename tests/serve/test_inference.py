import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from skip2lora import _core
from skip2lora.errors import DataError
from skip2lora.serve.inference import DATATYPES, Asked, answer, datatype, numbers, parse, read
from skip2lora.serve.inference import in_binary as make_binary


def body(*inputs, **more):
    return json.dumps({"inputs": list(inputs), **more}).encode()


def tensor(data, shape, kind="FP32", name="X", **more):
    return {"name": name, "datatype": kind, "shape": shape, "data": data, **more}


def in_binary(inputs, *tails, **more):
    head = body(*inputs, **more)
    return read(head + b"".join(tails), len(head))


def binary(size, shape, kind="FP32", name="X"):
    parameters = {"binary_data_size": size}
    return {"name": name, "datatype": kind, "shape": shape, "parameters": parameters}


def test_flat_and_nested_lists_are_the_same_tensor():
    flat = read(body(tensor([1, 2.5, 3, 4, 5, 6], [2, 3]))).inputs["X"]
    nested = read(body(tensor([[1, 2.5, 3], [4, 5, 6]], [2, 3]))).inputs["X"]
    assert flat.dtype == nested.dtype == np.float32
    assert flat.tolist() == nested.tolist() == [[1, 2.5, 3], [4, 5, 6]]


def test_texts_and_flags_are_read():
    asked = read(body(tensor(["a", "é"], [2], "BYTES", "t"), tensor([True, False], [2], "BOOL")))
    assert asked.inputs["t"].tolist() == ["a", "é"]
    assert asked.inputs["X"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("data", "shape", "kind"),
    [
        ([1, 2], [3], "FP32"),  # too few
        ([[1, 2], [3]], [3], "FP32"),
        ([[1, 2], [3, 4], [5, 6]], [2, 3], "FP32"),  # transposed
        ([[1], [2]], [1, 2], "INT32"),
        (["1", "2"], [2], "FP32"),
        ([None, 1], [2], "FP32"),
        ([True, 1.5], [2], "FP32"),  # NumPy would make 1 of it
        ([[True, 2], [3, 4]], [2, 2], "INT32"),
        ([True], [1], "FP32"),
        ([1, 0], [2], "BOOL"),
        ([1.5], [1], "INT32"),
        ([128], [1], "INT8"),
        ([-129], [1], "INT8"),
        ([-1], [1], "UINT8"),
        ([256], [1], "UINT8"),
        ([10**30], [1], "INT64"),
        ([10**30], [1], "UINT64"),
        ({"a": 1}, [1], "FP32"),
        (3, [], "FP32"),
        ([1], [1], "BYTES"),
        ([["a"], "b"], [2], "BYTES"),
    ],
)
def test_other_values_than_the_datatype_says_are_refused(data, shape, kind):
    with pytest.raises(DataError, match="other data than"):
        read(body(tensor(data, shape, kind)))


@pytest.mark.parametrize(
    ("kind", "ends"), [("INT8", [-128, 127]), ("UINT8", [0, 255]), ("UINT64", [0, 2**64 - 1])]
)
def test_the_ends_of_whole_numbers_are_read(kind, ends):
    assert read(body(tensor(ends, [2], kind))).inputs["X"].tolist() == ends


def test_no_samples_are_a_tensor_too():
    assert read(body(tensor([], [0, 3]))).inputs["X"].shape == (0, 3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "no JSON"),
        (b"\xff", "no JSON"),
        (b'{"inputs": [NaN]}', "no JSON"),
        (b'{"inputs": [1e400]}', "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[1]", "a JSON list"),
        (b"{}", "no inputs"),
        (b'{"inputs": 3}', "no list of objects"),
        (b'{"inputs": [3]}', "no list of objects"),
        (b'{"inputs": [{}]}', "has the name None"),
        (body(*[{"name": f"n{at}"} for at in range(65)]), "64 or fewer"),
        (body({"name": "X"}), "has datatype None"),
        (body({"name": "X", "datatype": ["FP32"], "shape": [1]}), "has datatype"),
        (body({"name": "X", "datatype": "FP32", "shape": "3"}), "has shape"),
        (body({"name": "X", "datatype": "FP32", "shape": [-1]}), "has shape"),
        (body({"name": "X", "datatype": "FP32", "shape": [True]}), "has shape"),
        (body({"name": "X", "datatype": "FP32", "shape": [1] * 17}), "has shape"),
        (body({"name": "X", "datatype": "FP32", "shape": [2, 2]}), "expected 4 numbers"),
        (body(tensor([1], [1]), tensor([1], [1])), "there twice"),
        (body(tensor([1], [1], parameters=3)), "parameters are 3"),
        (body(tensor([1], [1]), outputs=[{}]), "outputs has the name None"),
        (body(tensor([1], [1]), id=3), "id is 3"),
        (body(tensor([1], [1]), parameters={"binary_data_output": 1}), "true or false"),
        (
            body(tensor([1], [1]), outputs=[{"name": "a", "parameters": {"classification": 2}}]),
            "classification",
        ),
    ],
)
def test_what_is_no_request_is_refused(text, says):
    with pytest.raises(DataError, match=says):
        read(text)


@given(st.data())
def test_binary_tensors_of_every_type_come_whole(data):
    kinds = data.draw(st.lists(st.sampled_from(sorted(DATATYPES)), min_size=1, max_size=3))
    shapes = arrays.array_shapes(min_dims=1, max_dims=3, max_side=4)
    values = [data.draw(arrays.arrays(np.dtype(DATATYPES[kind]), shapes)) for kind in kinds]
    tails = [each.tobytes() for each in values]
    heads = [
        binary(len(tail), list(each.shape), kind, f"n{at}")
        for at, (tail, each, kind) in enumerate(zip(tails, values, kinds, strict=True))
    ]
    inputs = in_binary(heads, *tails).inputs
    for name, each in zip(inputs, values, strict=True):
        assert inputs[name].dtype == each.dtype
        np.testing.assert_array_equal(inputs[name], each)


def test_binary_texts_stand_behind_their_lengths():
    raw = struct.pack("<I", 2) + "é".encode() + struct.pack("<I", 0)
    asked = in_binary([binary(len(raw), [2], "BYTES")], raw)
    assert asked.inputs["X"].tolist() == ["é", ""]


@pytest.mark.parametrize(
    ("size", "shape", "kind", "tail", "says"),
    [
        (8, [2], "FP32", b"\0" * 7, "of 7 bytes left"),
        (8, [2], "FP32", b"\0" * 9, "1 bytes stand behind"),
        (8, [3], "FP32", b"\0" * 8, "expected 12"),
        (-1, [0], "FP32", b"", "binary_data_size"),
        (True, [1], "INT8", b"\0", "binary_data_size"),
        (1, [1], "BOOL", b"\2", "bytes above 1"),
        (5, [1], "BYTES", struct.pack("<I", 2) + b"a", "other bytes than texts"),
        (5, [2], "BYTES", struct.pack("<I", 1) + b"a", "other bytes than texts"),
        (5, [1], "BYTES", struct.pack("<I", 1) + b"\xff", "other bytes than texts"),
        (3, [1], "BYTES", b"\0\0\0", "other bytes than texts"),
    ],
)
def test_binary_tensors_that_do_not_fit_are_refused(size, shape, kind, tail, says):
    with pytest.raises(DataError, match=says):
        in_binary([binary(size, shape, kind)], tail)


def test_a_request_in_binary_is_read_as_it_was():
    inputs = {"a": np.float32([[1, 2.5]]), "b": ("x", "é"), "c": np.int64([[[7]]])}
    head, tail = make_binary(inputs)
    back = read(head + tail, len(head)).inputs
    assert list(back) == ["a", "b", "c"]
    assert (back["a"].dtype, back["c"].dtype) == (np.float32, np.int64)
    assert [back[name].tolist() for name in "abc"] == [[[1, 2.5]], ["x", "é"], [[[7]]]]


def test_data_twice_is_refused():
    with pytest.raises(DataError, match="in JSON and in binary"):
        in_binary([binary(4, [1]) | {"data": [1]}], b"\0" * 4)


@pytest.mark.parametrize("length", [0, -1, 3])
def test_a_header_beyond_the_body_is_refused(length):
    with pytest.raises(DataError, match="Inference-Header-Content-Length"):
        read(b"{}", length)


OUTPUTS = {
    "probabilities": np.float32([[0.25, 0.75], [0.5, 0.5]]),
    "answer": ("b", "a"),
    "id": np.int64([7, 8]),
}


def test_an_answer_in_json_has_every_output():
    text, json_bytes = answer(Asked({}, id="9"), OUTPUTS, model_name="fan", model_version="1")
    assert json_bytes is None
    assert json.loads(text) == {
        "model_name": "fan",
        "model_version": "1",
        "id": "9",
        "outputs": [
            tensor([0.25, 0.75, 0.5, 0.5], [2, 2], name="probabilities"),
            tensor(["b", "a"], [2], "BYTES", "answer"),
            tensor([7, 8], [2], "INT64", "id"),
        ],
    }


def test_an_answer_is_binary_where_asked_and_in_the_order_asked():
    asked = read(
        body(
            tensor([1], [1]),
            outputs=[
                {"name": "answer", "parameters": {"binary_data": True}},
                {"name": "id"},
                {"name": "probabilities", "parameters": {"binary_data": True}},
            ],
        )
    )
    text, json_bytes = answer(asked, OUTPUTS)
    head, tail = json.loads(text[:json_bytes]), text[json_bytes:]
    assert [each["name"] for each in head["outputs"]] == ["answer", "id", "probabilities"]
    sizes = [each.get("parameters", {}).get("binary_data_size") for each in head["outputs"]]
    assert sizes == [10, None, 16]
    assert tail[:10] == b"\1\0\0\0b\1\0\0\0a"
    assert np.frombuffer(tail[10:], "<f4").tolist() == [0.25, 0.75, 0.5, 0.5]


def test_all_outputs_are_binary_where_the_request_says_so():
    asked = read(body(tensor([1], [1]), parameters={"binary_data_output": True}))
    text, json_bytes = answer(asked, OUTPUTS)
    assert len(text) - json_bytes == 16 + 10 + 16
    assert all("data" not in each for each in json.loads(text[:json_bytes])["outputs"])


def test_an_output_that_is_not_there_is_refused():
    asked = read(body(tensor([1], [1]), outputs=[{"name": "logits"}]))
    with pytest.raises(DataError, match="'logits' was asked for, expected one of probabilities"):
        answer(asked, OUTPUTS)


@pytest.mark.parametrize(("kind", "code"), DATATYPES.items())
def test_types_have_their_names(kind, code):
    assert datatype(np.zeros(1, code)) == kind
    assert datatype(np.zeros(1, np.dtype(code).newbyteorder(">"))) == kind


@given(st.lists(st.one_of(st.floats(width=64), st.integers(-(2**70), 2**70))))
def test_numbers_become_the_floats_that_numpy_makes_of_them(data):
    values = np.empty(len(data), np.float32)
    assert _core.floats(data, values)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(values, np.array(data, np.float64).astype(np.float32))


@pytest.mark.parametrize("other", [True, None, "1", [1.0], 10**400, np.float64(1)])
def test_what_is_no_number_among_numbers_is_noticed(other):
    assert not _core.floats([1, 2.5, other], np.empty(3, np.float32))


def test_another_count_of_numbers_is_noticed():
    values = np.zeros(3, np.float32)
    assert not _core.floats([1.0] * 2, values)
    assert not _core.floats([1.0] * 4, values)
    assert not values.any()
    with pytest.raises(TypeError):
        _core.floats((1.0,), np.empty(1, np.float32))
    with pytest.raises(TypeError):
        _core.floats([1.0], np.empty(1, np.float64))


def test_words_of_parse():
    assert parse(b'{"a": 1}') == {"a": 1}


def test_rows_of_numbers_tell_their_own_shape():
    assert numbers([[1, 2.5], [3, 4]]).tolist() == [[1, 2.5], [3, 4]]
    assert numbers([1, 2]).shape == (2,)
    for wrong in ([[1, 2], [3]], [[1, "2"]], [[1, None]], [[1], 2], [True, 1.5]):
        with pytest.raises(DataError, match="no lists of numbers of one length"):
            numbers(wrong)
