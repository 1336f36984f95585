"""A Relax module from the JSON that `tvm.ir.save_json` writes; the one file form read here.

What TVM can save and load, and whether loading runs foreign code (apache-tvm 0.25 to 0.27):

- TVMScript text does: parsing evaluates the expressions in it as Python, with `open` and
  `__import__` at hand. The frontend refuses it.
- JSON is a list of nodes, each a type's name and its fields. Loading makes the objects and sets
  the fields; no function is called and nothing is unpickled. But a node may also be compiled code
  (`ffi.Module`) or the name of a function (`ir.EnvFunc`), a tensor claims what size it likes, and a
  node that holds itself ends the process. So the nodes are checked before TVM sees them: known
  kinds of types, tensors as long as they say, no cycle and no absurd depth.
"""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir

from xbarc.frontends.onnx.reader import MALFORMED
from xbarc.frontends.relax.importer import load_relax
from xbarc.frontends.relax.weights import Params
from xbarc.frontends.source import Inputs
from xbarc.frontends.tvm_params import parse_tensor
from xbarc.support.errors import XbarcError

MAX_NESTING = 1000
"""Nodes inside each other; real modules stay below 100."""

PLAIN = ("None", "bool", "int", "float", "DataType", "ffi.String", "ffi.Shape")
CONTAINERS = ("ffi.Array", "ffi.Map")
FAMILIES = ("ir.", "prim.", "relax.", "s_tir.", "sym.", "tirx.")
"""The types of modules, functions, expressions and attributes."""

CODE = ("ir.EnvFunc",)
"""Of these families, and still no part of a network."""

NAMES = ("ir.Op", "ir.SourceName")
"""Types that are written as a name."""

INLINE = range(5 + 1)
"""Static types of fields that hold their value, not the number of a node (None to DataType)."""

BROKEN = (*MALFORMED, IndexError, RuntimeError)
"""What fields that contradict each other end in; RuntimeError is TVM's own."""


def load_file(
    path: str | Path,
    params: Params | None = None,
    inputs: Inputs | None = None,
) -> ir.Model:
    """The ONNX graph of a module that `tvm.ir.save_json` wrote; see `load_relax`.

    Raises:
        XbarcError: apache-tvm isn't installed, the file is no module, or `load_relax` raises it.
    """
    module = _module(path)
    try:
        return load_relax(module, params, inputs, str(path))
    except BROKEN as error:
        raise XbarcError(f"{path} isn't a module that TVM would write: {_line(error)}") from error


def _module(path: str | Path) -> Any:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise XbarcError(f"{path} isn't JSON: it isn't UTF-8") from error
    except OSError as error:
        raise XbarcError(f"{path} can't be read: {error.strerror}") from error
    try:
        import tvm
        from tvm.ir import json_compact
    except ImportError as error:
        raise XbarcError(
            f"{path} is a Relax module, which apache-tvm reads: pip install 'xbarc[tvm]'"
        ) from error
    try:
        _check_version(json.loads(text), tvm.__version__, str(path))
        document = json.loads(json_compact.upgrade_json(text))
        _check(document, str(path))
        module = tvm.ir.load_json(json.dumps(document))
    except XbarcError:
        raise
    except BROKEN as error:
        raise XbarcError(
            f"{path} isn't JSON as tvm.ir.save_json writes it: {_line(error)}"
        ) from error
    if not isinstance(module, tvm.IRModule):
        raise XbarcError(f"{path} holds no module but a {type(module).__name__}")
    return module


def _check_version(document: Any, installed: str, where: str) -> None:
    """TVM's forms change from minor version to minor version, and its own upgrade fails on some."""
    written = str(document["metadata"]["tvm_version"])
    if written.split(".")[:2] != installed.split(".")[:2]:
        raise XbarcError(
            f"{where} was written by apache-tvm {written}, and {installed} is installed, which "
            "reads its own files only: install the other, or save the module again"
        )


def _line(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return " ".join(str(error).split())[:200] or type(error).__name__


# --- Checking the nodes -------------------------------------------------------------------------


def _check(document: Any, where: str) -> None:
    """Raises `XbarcError` for what loading would run, crash on or allocate without end."""
    nodes = document["nodes"]
    numbers = range(len(nodes))
    for number, node in enumerate(nodes):
        kind = node["type"]
        if not _is_known(kind):
            raise XbarcError(f"{where}: node {number} is a {kind}, which is no part of a network")
        if kind == "ffi.Tensor":
            _check_tensor(node["data"], f"{where}: node {number}")
    children = [list(_children(node)) for node in nodes]
    for number, held in enumerate(children):
        if any(child not in numbers for child in held):
            raise XbarcError(f"{where}: node {number} holds a node that there isn't")
    _check_nesting(children, where)


def _is_known(kind: str) -> bool:
    if kind in (*PLAIN, *CONTAINERS, "ffi.Tensor"):
        return True
    return kind.startswith(FAMILIES) and kind not in CODE


def _check_tensor(text: str, where: str) -> None:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise XbarcError(f"{where}: a tensor that isn't base64") from error
    parse_tensor(data, where)


def _children(node: Mapping[str, Any]) -> Iterator[int]:
    """The numbers of the nodes that a node holds."""
    kind = node["type"]
    if kind in (*PLAIN, *NAMES, "ffi.Tensor"):
        return
    data = node["data"]
    if kind in CONTAINERS:
        yield from data
        return
    for name in _linked_fields(kind):
        if name in data:
            yield data[name]


def _linked_fields(kind: str) -> Iterator[str]:
    """The fields of a type that hold the number of a node, by TVM's own description of it."""
    from tvm_ffi import core

    info: Any = core._lookup_or_register_type_info_from_type_key(kind)
    while info is not None:
        for field in info.fields or ():
            if field.field_static_type_index not in INLINE:
                yield field.name
        info = info.parent_type_info


def _check_nesting(children: list[list[int]], where: str) -> None:
    """Each node is reached once, the deepest first; what isn't done when met again is a cycle."""
    depth = [0] * len(children)
    for start in range(len(children)):
        path = [(start, iter(children[start]))] if not depth[start] else []
        open_nodes = {start}
        while path:
            node, rest = path[-1]
            child = next((c for c in rest if not depth[c]), None)
            if child is None:
                depth[node] = 1 + max((depth[c] for c in children[node]), default=0)
                open_nodes.discard(node)
                path.pop()
            elif child in open_nodes:
                raise XbarcError(f"{where}: node {child} holds itself")
            else:
                open_nodes.add(child)
                path.append((child, iter(children[child])))
            if len(path) > MAX_NESTING or depth[node] > MAX_NESTING:
                raise XbarcError(f"{where}: nodes inside each other more than {MAX_NESTING} deep")
