"""Relax as a frontend: a module of apache-tvm, in memory or as JSON in a file."""

import re
from pathlib import Path
from typing import Any

from xbarc.frontends.source import Frontend, Loaded, Options, beginning
from xbarc.support.errors import XbarcError

SCRIPT = re.compile(
    r"^\s*(from tvm\b|import tvm\b|@(I|R|T|tvm\.script)\.|# from tvm)", re.MULTILINE
)
GRAPH = re.compile(r'\s*\{\s*"(root_index|nodes|metadata)"\s*:')


def recognises(source: object) -> bool:
    """Whether `source` is a module of apache-tvm, or a file of one; said without importing it."""
    return is_module(source) or form_of(source) is not None


def is_module(source: object) -> bool:
    """Whether an object is a module of apache-tvm."""
    kind = type(source)
    return kind.__name__ == "IRModule" and kind.__module__.partition(".")[0] == "tvm"


def form_of(source: object) -> str | None:
    """`json` or `script` where a file holds a Relax module, None otherwise."""
    text = beginning(source).decode("utf-8", "replace")
    if GRAPH.match(text):
        return "json"
    return "script" if "\0" not in text and SCRIPT.search(text) else None


def _load(source: Any, options: Options) -> Loaded:
    from xbarc.frontends.relax.importer import load_relax
    from xbarc.frontends.relax.serialized import load_file
    from xbarc.frontends.tvm_params import read_params

    params = options.weights.params
    if isinstance(params, str | Path):
        params = read_params(params)
    if is_module(source):
        return Loaded(load_relax(source, params, options.inputs))
    if form_of(source) == "script":
        raise XbarcError(
            f"{source} is TVMScript, and reading it runs the Python in it: load it yourself and "
            "pass the IRModule to xbarc.compile, or save it with tvm.ir.save_json"
        )
    return Loaded(load_file(source, params, options.inputs))


FRONTEND = Frontend("relax", "TVM Relax", (".json",), recognises, _load, takes=("params",))
