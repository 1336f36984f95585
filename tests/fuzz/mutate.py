"""Structured mutations: of bytes, text, JSON, protobuf, npz; and of a program's files."""

import io
import json
import re
import struct
import zipfile
from collections.abc import Callable
from random import Random

import numpy as np
import onnx
from google.protobuf.message import Message

NUMBERS = (
    0,
    1,
    -1,
    2,
    7,
    255,
    1 << 15,
    (1 << 31) - 1,
    1 << 31,
    -(1 << 31),
    1 << 40,
    (1 << 62),
    5e-324,
)
TEXTS = (
    "",
    "a\nb",
    "\x1b[31m",
    "[/]",
    "x" * 300,
    "\u202e",
    "../x",
    "/etc/passwd",
    "nan",
    "é",
    "%x",
)
NUMERALS = (
    "9" * 5000,
    "1e308",
    "-1",
    "1e-320",
    "nan",
    "inf",
    "0x10",
    "1.5",
    "[" * 3000,
    "{" * 3000,
)
WORD = re.compile(r"\w+|\s+|[^\w\s]")


def of_bytes(content: bytes, random: Random) -> bytes:
    """A bit flipped, a part cut out, twice there, or overwritten."""
    data = bytearray(content)
    at = random.randrange(len(data) + 1)
    length = random.choice((1, 2, 8, 64))
    kind = random.randrange(5)
    if kind == 0 and data:
        data[at % len(data)] ^= 1 << random.randrange(8)
    elif kind == 1:
        del data[at : at + length]
    elif kind == 2:
        data[at:at] = data[at : at + length]
    elif kind == 3:
        data[at : at + length] = bytes(random.randrange(256) for _ in range(length))
    else:
        del data[at:]
    return bytes(data)


def of_text(content: bytes, random: Random) -> bytes:
    """Words and signs gone, twice there, exchanged, or others in their place."""
    if random.random() < 0.1:
        return of_bytes(content, random)
    words = WORD.findall(content.decode(errors="surrogateescape"))
    for _ in range(random.choice((1, 1, 2, 4))):
        if not words:
            break
        at = random.randrange(len(words))
        kind = random.randrange(6)
        numbers = [i for i, word in enumerate(words) if word.isdigit()]
        if kind == 0:
            del words[at]
        elif kind == 1:
            words.insert(at, words[at])
        elif kind == 2:
            other = random.randrange(len(words))
            words[at], words[other] = words[other], words[at]
        elif kind == 3 and numbers:
            words[random.choice(numbers)] = random.choice((*NUMERALS, *map(str, NUMBERS)))
        elif kind == 4:
            words[at] = random.choice(words)
        else:
            words[at] = random.choice((*TEXTS, *NUMERALS))
    return "".join(words).encode(errors="surrogateescape")


def of_json(content: bytes, random: Random) -> bytes:
    """A value gone, twice there, or another in its place, of any type."""
    if random.random() < 0.1:
        return of_text(content, random)
    try:
        document = json.loads(content)
    except ValueError:
        return of_text(content, random)
    places = list(_places(document))
    for _ in range(random.choice((1, 1, 2))):
        if not places:
            break
        inside, key = random.choice(places)
        kind = random.randrange(4)
        try:
            if kind == 0:
                del inside[key]
            elif kind == 1 and isinstance(inside, list):
                inside.insert(key, inside[key])
            else:
                inside[key] = _other(inside[key], document, random)
        except (LookupError, TypeError):
            continue  # it went with an earlier one
    return json.dumps(document).encode()


def _places(document):
    waiting = [document]
    while waiting:
        inside = waiting.pop()
        keys = inside if isinstance(inside, dict) else range(len(inside))
        for key in keys:
            yield inside, key
            if isinstance(inside[key], dict | list):
                waiting.append(inside[key])


def _other(value, document, random: Random):
    if isinstance(value, str) and random.random() < 0.5:
        return of_text(value.encode(), random).decode(errors="backslashreplace")
    if isinstance(value, int | float) and random.random() < 0.5:
        return random.choice((*NUMBERS, float("nan"), float("inf"), 1e308, -value))
    return random.choice((None, True, [], {}, "", 0, -1, 0.5, [0], {"a": 1}, *TEXTS, *NUMBERS))


# --- ONNX -----------------------------------------------------------------------------------------


def of_onnx(content: bytes, random: Random) -> bytes:
    """Fields of a model gone, twice there, exchanged, or of other values."""
    if random.random() < 0.1:
        return of_bytes(content, random)
    model = onnx.load_model_from_string(content)
    for _ in range(random.choice((1, 1, 2, 4))):
        _change(random.choice(list(_messages(model))), random)
    return model.SerializeToString()


def _messages(model: Message):
    waiting = [model]
    while waiting:
        message = waiting.pop()
        yield message
        for field, value in message.ListFields():
            if field.message_type is not None:
                waiting.extend([value] if isinstance(value, Message) else value)


def _change(message: Message, random: Random) -> None:
    if isinstance(message, onnx.TensorProto) and random.random() < 0.3:
        message.data_type = random.randrange(25)
        return
    if isinstance(message, onnx.NodeProto) and random.random() < 0.3:
        names = [schema.name for schema in onnx.defs.get_all_schemas()]
        message.op_type = random.choice(names)
        return
    fields = message.DESCRIPTOR.fields
    present = [field for field, _ in message.ListFields()]
    field = random.choice(present if present and random.random() < 0.8 else fields)
    value = getattr(message, field.name)
    kind = random.randrange(4)
    if kind == 0:
        message.ClearField(field.name)
    elif isinstance(value, Message):
        _change(value, random)
    elif hasattr(value, "add"):
        _repeated(value, random)
    elif hasattr(value, "append"):
        _scalars(value, field, random)
    else:
        _set(message, field, random)


def _repeated(values, random: Random) -> None:
    if not values:
        values.add()
        return
    at = random.randrange(len(values))
    kind = random.randrange(3)
    if kind == 0:
        del values[at]
    elif kind == 1:
        values.add().CopyFrom(values[at])
    else:
        values[at].CopyFrom(random.choice(list(values)))


def _scalars(values, field, random: Random) -> None:
    at = random.randrange(len(values) + 1)
    if at < len(values) and random.random() < 0.4:
        del values[at]
        return
    for other in random.sample(_values(field, random), 4):
        try:
            if at < len(values):
                values[at] = other
            else:
                values.append(other)
            return
        except (TypeError, ValueError):
            continue


def _set(message: Message, field, random: Random) -> None:
    for other in random.sample(_values(field, random), 4):
        try:
            setattr(message, field.name, other)
            return
        except (TypeError, ValueError):
            continue


def _values(field, random: Random) -> list:
    if field.cpp_type == field.CPPTYPE_STRING:
        if field.type == field.TYPE_BYTES:
            return [text.encode() for text in TEXTS] + [b"\xff" * 4]
        return list(TEXTS)
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return [0.0, -1.0, 1e38, float("nan"), float("inf"), 1e-40]
    return [int(n) for n in NUMBERS] + [random.randrange(32) for _ in range(8)]


# --- npz ------------------------------------------------------------------------------------------


def of_npz(content: bytes, random: Random) -> bytes:
    """Other shapes, types, headers and members; an archive that is damaged, or says it's locked."""
    kind = random.randrange(9)
    with np.load(io.BytesIO(content)) as file:
        arrays = dict(file)
    name = random.choice(list(arrays))
    array = arrays[name]
    if kind == 0:
        dtypes = ("i1", "u8", "f2", "f8", "c16", "S3", "U2", "M8[s]", "?", "V4")
        arrays[name] = np.zeros(array.shape, random.choice(dtypes))
    elif kind == 1:
        shapes = ((), (0,), (1,), (*array.shape, 1), (0, *array.shape[1:]), array.shape[1:])
        arrays[name] = np.zeros(random.choice(shapes), array.dtype)
    elif kind == 2:
        arrays[random.choice(TEXTS[1:5])] = arrays.pop(name)
    elif kind == 3 and array.dtype.kind == "f" and array.size:
        array.flat[random.randrange(array.size)] = random.choice(
            (float("nan"), float("inf"), 3e38, 1e-45)
        )
    elif kind == 4:
        return _members({**_npy(arrays), random.choice(("note.txt", "x", "a/b.npy")): b"text"})
    elif kind == 5:
        members = _npy(arrays)
        member = random.choice(list(members))
        members[member] = of_bytes(members[member], random)
        return _members(members)
    elif kind == 6:
        return _flagged(_members(_npy(arrays)), random)
    elif kind == 7:
        arrays[name] = np.array([{}, 1], dtype=object)
    else:
        return of_bytes(content, random)
    out = io.BytesIO()
    np.savez(out, **{key or "x": value for key, value in arrays.items()})
    return out.getvalue()


def _npy(arrays) -> dict[str, bytes]:
    members = {}
    for name, array in arrays.items():
        out = io.BytesIO()
        np.lib.format.write_array(out, array)
        members[f"{name}.npy"] = out.getvalue()
    return members


def _members(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def _flagged(content: bytes, random: Random) -> bytes:
    """Flags (encrypted) or the method of compression of every member."""
    data = bytearray(content)
    offset, value = random.choice(((0, 1), (2, 99), (2, 12), (0, 0x800)))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.find(mark)
        while start >= 0:
            data[start + at + offset : start + at + offset + 2] = struct.pack("<H", value)
            start = data.find(mark, start + 4)
    return bytes(data)


OF: dict[str, Callable[[bytes, Random], bytes]] = {
    "onnx": of_onnx,
    "npz": of_npz,
    "toml": of_text,
    "relay": of_text,
    "params": of_bytes,
    "json": of_json,
    "mlir": of_text,
    "safetensors": of_bytes,
    "txt": of_text,
}
"""By the ending of a file."""
