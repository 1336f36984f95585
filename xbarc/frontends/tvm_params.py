"""TVM's `.params` files, read without TVM: named tensors in its binary form.

Little-endian: u64 0xF7E58D4F05049CB7, u64 reserved, u64 n, n names (u64 length, bytes), u64 n, then
n tensors: u64 0xDD5E40F096B4A13F, u64 reserved, i32 device type, i32 device id, i32 dimensions,
u8 type code, u8 bits, u16 lanes, i64 sizes, i64 bytes, data. Every count and length is compared
with what is left of the file before anything of its size is made.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np

from xbarc.support.data import Array, load_npz
from xbarc.support.errors import XbarcError

LIST_MAGIC = 0xF7E58D4F05049CB7
TENSOR_MAGIC = 0xDD5E40F096B4A13F

MAX_DIMENSIONS = 64
"""numpy's own limit."""

SMALLEST_TENSOR = 40
"""Bytes of a tensor without dimensions and data."""

DTYPES: dict[tuple[int, int], np.dtype[np.generic]] = {
    **{(0, bits): np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{(1, bits): np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{(2, bits): np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    (1, 1): np.dtype(np.bool_),
    (4, 16): np.dtype(ml_dtypes.bfloat16),
    (6, 8): np.dtype(np.bool_),
}
"""DLPack's type code and bits; a bool is one byte."""


def read_params(path: str | Path) -> dict[str, Array]:
    """Arrays by name, of an npz file or of TVM's form. Raises `XbarcError` as `load_params`."""
    return load_npz(path) if Path(path).suffix == ".npz" else load_params(path)


def load_params(path: str | Path) -> dict[str, Array]:
    """The tensors of a `.params` file by name.

    Raises:
        XbarcError: the file can't be read, or isn't in this form.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise XbarcError(f"{path} can't be read: {error.strerror}") from error
    return parse_params(data, str(path))


def parse_params(data: bytes, where: str) -> dict[str, Array]:
    """The tensors of the bytes of a `.params` file: views of them, in the file's order."""
    reader = _Reader(data, where)
    if len(data) < 8 or reader.number("<Q", "magic number") != LIST_MAGIC:
        raise XbarcError(
            f"{where} isn't a TVM parameter file (.params): "
            "it doesn't begin as tvm.runtime.save_param_dict writes it"
        )
    reader.skip(8, "header")
    names = [reader.name() for _ in range(reader.count(8, "names"))]
    count = reader.count(SMALLEST_TENSOR, "tensors")
    if count != len(names):
        raise XbarcError(f"{where} has {len(names)} names and {count} tensors: it is damaged")
    tensors = {}
    for name in names:
        if name in tensors:
            raise XbarcError(f"{where} has two tensors called {name!r}")
        tensors[name] = reader.tensor(repr(name))
    if reader.at != len(data):
        raise XbarcError(f"{where} has {len(data) - reader.at} bytes behind its last tensor")
    return tensors


def parse_tensor(data: bytes, where: str) -> Array:
    """One tensor in the form that it has in a `.params` file, with nothing behind it."""
    reader = _Reader(data, where)
    tensor = reader.tensor("the tensor")
    if reader.at != len(data):
        raise XbarcError(f"{where} has {len(data) - reader.at} bytes behind its tensor")
    return tensor


@dataclass
class _Reader:
    data: bytes
    where: str
    at: int = 0

    def skip(self, length: int, what: str) -> int:
        """Go on by `length` bytes; where they begin."""
        if length < 0 or length > len(self.data) - self.at:
            raise XbarcError(
                f"{self.where} is damaged or cut short: {what} needs {length} bytes "
                f"and {len(self.data) - self.at} are left"
            )
        start, self.at = self.at, self.at + length
        return start

    def number(self, form: str, what: str) -> int:
        size = struct.calcsize(form)
        found: int = struct.unpack_from(form, self.data, self.skip(size, what))[0]
        return found

    def count(self, smallest: int, what: str) -> int:
        """How many things of at least `smallest` bytes follow."""
        found = self.number("<Q", f"the number of {what}")
        if found * smallest > len(self.data) - self.at:
            raise XbarcError(f"{self.where} is damaged: {found} {what} don't fit into it")
        return found

    def name(self) -> str:
        length = self.number("<Q", "a name's length")
        start = self.skip(length, "a name")
        try:
            return self.data[start : self.at].decode()
        except UnicodeDecodeError:
            raise XbarcError(f"{self.where} is damaged: a name isn't text") from None

    def tensor(self, name: str) -> Array:
        if self.number("<Q", name) != TENSOR_MAGIC:
            raise XbarcError(f"{self.where} is damaged: {name} doesn't begin as a tensor does")
        self.skip(16, name)
        dimensions = self.number("<i", name)
        code, bits, lanes = (self.number(form, name) for form in ("<B", "<B", "<H"))
        dtype = DTYPES.get((code, bits))
        if dtype is None or lanes != 1:
            raise XbarcError(
                f"{self.where}: {name} has an element type (code {code}, {bits} bits, "
                f"{lanes} lanes) that isn't read"
            )
        if not 0 <= dimensions <= MAX_DIMENSIONS:
            raise XbarcError(f"{self.where} is damaged: {name} has {dimensions} dimensions")
        shape = [self.number("<q", name) for _ in range(dimensions)]
        if any(not 0 <= size <= len(self.data) for size in shape):
            raise XbarcError(f"{self.where} is damaged: {name} has the shape {shape}")
        length = self.number("<q", name)
        if length != math.prod(shape) * dtype.itemsize:
            raise XbarcError(
                f"{self.where} is damaged: {name} of shape {shape} has {length} bytes "
                f"and needs {math.prod(shape) * dtype.itemsize}"
            )
        start = self.skip(length, name)
        flat = np.frombuffer(self.data, dtype, math.prod(shape), start)
        return flat.reshape(shape)
