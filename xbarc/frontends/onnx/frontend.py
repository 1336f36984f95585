"""ONNX as a frontend: files of each form that onnx writes, and models in memory."""

from typing import Any

from xbarc.frontends.source import Frontend, Loaded, Options, beginning, path_of

SUFFIXES = (
    ".onnx",
    ".json",
    ".onnxjson",
    ".onnxtext",
    ".onnxtxt",
    ".pb",
    ".pbtxt",
    ".prototxt",
    ".textproto",
    ".txtpb",
)
"""Those by which onnx tells its forms apart; a file of any other is protobuf."""

FIRST_FIELD = b"\x08"
"""A protobuf model begins with its first field: the version of the file format."""

IN_MEMORY = {("onnx", "ModelProto"), ("onnx_ir", "Model")}


def recognises(source: object) -> bool:
    """Whether a file may be an ONNX model, by its name or its first byte, or an object is one."""
    path = path_of(source)
    if path is not None:
        return path.suffix in SUFFIXES or beginning(path, 1) == FIRST_FIELD
    kind = type(source)
    return (kind.__module__.partition(".")[0], kind.__name__) in IN_MEMORY


def _load(source: Any, options: Options) -> Loaded:
    from xbarc.frontends.onnx.reader import read

    return Loaded(read(source))


FRONTEND = Frontend("onnx", "ONNX", SUFFIXES, recognises, _load)
