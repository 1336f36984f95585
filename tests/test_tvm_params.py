"""TVM's `.params` files: read whole, refused in one line where they are damaged."""

import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from relay_programs import problem_of
from shared import SHARED, needs_shared

from xbarc.frontends.tvm_params import load_params, parse_params, parse_tensor
from xbarc.support.errors import XbarcError

CODES = {"i": 0, "u": 1, "f": 2, "b": 6}


def tensor_bytes(array, code=None, bits=None):
    array = np.asarray(array)
    kind = CODES[array.dtype.kind] if code is None else code
    width = 8 * array.dtype.itemsize if bits is None else bits
    head = struct.pack("<QQiiiBBH", 0xDD5E40F096B4A13F, 0, 1, 0, array.ndim, kind, width, 1)
    sizes = struct.pack(f"<{array.ndim}q", *array.shape)
    return head + sizes + struct.pack("<q", array.nbytes) + array.tobytes()


def params_bytes(arrays):
    names = b"".join(struct.pack("<Q", len(name.encode())) + name.encode() for name in arrays)
    head = struct.pack("<QQQ", 0xF7E58D4F05049CB7, 0, len(arrays))
    tensors = b"".join(map(tensor_bytes, arrays.values()))
    return head + names + struct.pack("<Q", len(arrays)) + tensors


ARRAYS = {
    "conv1.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "scale": np.array(0.5),
    "codes": np.array([-3, 4], np.int8),
    "empty": np.zeros((0, 3), np.float16),
    "größe": np.array([True, False]),
}


def test_tensors_come_back():
    found = parse_params(params_bytes(ARRAYS), "w.params")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_types_without_a_letter_of_numpy():
    array = np.array([1.5, -2], ml_dtypes.bfloat16)
    found = parse_tensor(tensor_bytes(array.view(np.uint16), code=4, bits=16), "t")
    np.testing.assert_array_equal(found, array)
    found = parse_tensor(tensor_bytes(np.array([1, 0], np.uint8), code=1, bits=1), "t")
    assert found.dtype == bool


def test_what_tvm_writes_is_read(tmp_path):
    tvm = pytest.importorskip("tvm")
    arrays = {name: array for name, array in ARRAYS.items() if name != "empty"}
    tensors = {name: tvm.runtime.tensor(array) for name, array in arrays.items()}
    path = tmp_path / "w.params"
    path.write_bytes(bytes(tvm.runtime.save_param_dict(tensors)))
    found = load_params(path)
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def refusal(data):
    with pytest.raises(XbarcError) as caught:
        parse_params(data, "w.params")
    text = str(caught.value)
    assert text.startswith("w.params")
    assert "\n" not in text
    return text


def changed(data, at, form, value):
    return data[:at] + struct.pack(form, value) + data[at + struct.calcsize(form) :]


WHOLE = params_bytes({"w": np.arange(6, dtype=np.float32).reshape(2, 3)})
TENSOR = WHOLE.index(struct.pack("<Q", 0xDD5E40F096B4A13F))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "isn't a TVM parameter file"),
        (b"PK\x03\x04" + bytes(40), "isn't a TVM parameter file"),
        (changed(WHOLE, 16, "<Q", 1 << 63), "9223372036854775808 names don't fit"),
        (changed(WHOLE, 24, "<Q", 1 << 62), "a name needs 4611686018427387904 bytes"),
        (changed(WHOLE, 33, "<Q", 99), "99 tensors don't fit"),
        (changed(WHOLE, 33, "<Q", 2), "1 names and 2 tensors"),
        (changed(WHOLE, 33, "<Q", 0), "1 names and 0 tensors"),
        (changed(WHOLE, 32, "<B", 0xFF), "a name isn't text"),
        (changed(WHOLE, TENSOR, "<Q", 1), "'w' doesn't begin as a tensor does"),
        (changed(WHOLE, TENSOR + 24, "<i", 1 << 30), "1073741824 dimensions"),
        (changed(WHOLE, TENSOR + 24, "<i", -1), "-1 dimensions"),
        (changed(WHOLE, TENSOR + 28, "<B", 9), "an element type (code 9, 32 bits, 1 lanes)"),
        (changed(WHOLE, TENSOR + 30, "<H", 4), "4 lanes"),
        (changed(WHOLE, TENSOR + 32, "<q", 1 << 62), "has the shape [4611686018427387904, 3]"),
        (changed(WHOLE, TENSOR + 32, "<q", -2), "has the shape [-2, 3]"),
        (changed(WHOLE, TENSOR + 48, "<q", 20), "has 20 bytes and needs 24"),
        (WHOLE[:-1], "'w' needs 24 bytes and 23 are left"),
        (WHOLE + b"x", "has 1 bytes behind its last tensor"),
    ],
)
def test_damage_is_said_in_one_line(data, what):
    assert what in refusal(data)


def test_a_name_twice():
    one = params_bytes({"a": np.zeros(1), "b": np.zeros(1)})
    assert "two tensors called 'a'" in refusal(one.replace(b"b", b"a", 1))


def test_a_missing_file(tmp_path):
    with pytest.raises(XbarcError, match="can't be read: No such file"):
        load_params(tmp_path / "none.params")


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_bytes_never_crash(data):
    at = data.draw(st.integers(0, len(WHOLE) - 1))
    value = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(WHOLE)))
    damaged = (WHOLE[:at] + bytes([value]) + WHOLE[at + 1 :])[:cut]
    found = {}
    problem = problem_of(lambda: found.update(parse_params(damaged, "w.params")))
    assert "\n" not in problem
    assert sum(array.nbytes for array in found.values()) <= len(damaged)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_behind_the_beginning(rest):
    data = struct.pack("<QQ", 0xF7E58D4F05049CB7, 0) + rest
    assert "\n" not in problem_of(parse_params, data, "w.params")


@needs_shared
def test_a_real_file_reads_to_the_last_byte():
    found = load_params(SHARED / "relay/lenet/deploy_param.params")
    shapes = {name: array.shape for name, array in found.items()}
    assert shapes["_param_1"] == (20, 1, 5, 5)
    assert shapes["_param_5"] == (500, 800)
    assert len(shapes) == 8
