"""The network as ONNX, with what xbarc made of each node: for viewers such as Netron.

It is the program's float network: the model as its authors named it, behind its graph passes, with
its weights. Each node carries metadata, which viewers show beside it, and a sentence:

    xbarc.on                 crossbars | digital
    xbarc.layer, ...         of a node on crossbars: its layer, and the layer's entry in report.json
    xbarc.part               of a digital node: the file of the program that has it
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xbarc.artifact import CompiledProgram
from xbarc.artifact.float_network import LAYERS, FloatNetwork
from xbarc.support.errors import XbarcError
from xbarc.support.files import check_output, written_whole
from xbarc.support.units import count, quantity

if TYPE_CHECKING:
    import onnx_ir as ir

FIGURES = (
    "mapping",
    "matrix",
    "tiles",
    "crossbars",
    "copies",
    "utilization",
    "adc_bits",
    "vectors",
    "adc_conversions",
    "latency_ns",
)
"""Of a layer's entry in report.json, beside `energy_pj`: the sum over its components."""

IR_VERSION = 10
"""Nodes have metadata from this version of ONNX's format on."""

LARGE_BYTES = 1_500_000_000
"""Weights beyond this lie in a file of their own: a protobuf can't hold 2 GB."""


def annotated(program: CompiledProgram) -> "ir.Model":
    """The float network, its nodes annotated; a copy.

    Raises `XbarcError` of a program that was saved without its float network.
    """
    if program.network is None:
        raise XbarcError("the program has no float network to annotate: compile it again")
    network = program.network()
    model = network.model.clone()
    rows = {str(row["name"]): row for row in program.report["layers"]}
    layers, parts = layers_of(network, model), parts_of(program)
    for graph in model.graphs():
        for node in graph:
            name = layers.get(node)
            if name is not None and name in rows:
                told, entries = _on_crossbars(name, rows[name])
            else:
                told, entries = _digital(node, parts)
            node.doc_string = told
            node.metadata_props.update({f"xbarc.{key}": value for key, value in entries.items()})
    report = program.report
    model.graph.doc_string = f"{report['model']} on {report['target']}, compiled by xbarc"
    model.metadata_props.pop(LAYERS, None)
    model.ir_version = max(model.ir_version, IR_VERSION)
    return model


def _on_crossbars(name: str, row: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    energy = sum(row["energy_pj"].values())
    told = (
        f"On crossbars: layer {name}, {row['mapping']}, tiles {count(row['tiles'])}, crossbars "
        f"{count(row['crossbars'])}, {quantity('energy_pj', energy)} an input"
    )
    entries = {"on": "crossbars", "layer": name}
    for key in FIGURES:
        if key in row:
            value = row[key]
            entries[key] = " x ".join(map(str, value)) if isinstance(value, list) else str(value)
    return told, {**entries, "energy_pj": f"{energy:.6g}"}


def _digital(node: "ir.Node", parts: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    part = next((parts[o.name] for o in node.outputs if o.name and o.name in parts), None)
    if part is None:
        return "Digital", {"on": "digital"}
    return f"Digital, in {part}", {"on": "digital", "part": part}


def layers_of(network: FloatNetwork, model: "ir.Model") -> "dict[ir.Node, str]":
    """The nodes of each layer: all between what it reads and what it computes, and its weights'."""
    producers = {o.name: node for node in model.graph for o in node.outputs if o.name}
    found: dict[ir.Node, str] = {}
    for layer, (reads, computes) in network.layers.items():
        waiting = [computes]
        while waiting:
            node = producers.get(waiting.pop())
            if node is not None and node not in found:
                found[node] = layer
                read = (v.name for v in node.inputs if v is not None)
                waiting += [name for name in read if name and name != reads]
    return found


def parts_of(program: CompiledProgram) -> dict[str, str]:
    """The digital file that computes each value, by the value's name."""
    from xbarc.graph.serialize import parse

    return {
        output: path
        for path, content in program.digital.items()
        for node in parse(content, "a digital part").graph.node
        for output in _named(node)
    }


def _named(node: Any) -> Iterator[str]:
    return (output for output in node.output if output)


def write_annotated(program: CompiledProgram, path: Path) -> list[Path]:
    """Write the annotated network to `path`; the files written.

    Weights are in it, above 1.5 GB in a second file, `path` with `.data` behind. Raises
    `XbarcError` of a program without a float network, and where the disk refuses.
    """
    import onnx_ir as ir

    from xbarc.graph.serialize import to_proto

    check_output(path)
    model = annotated(program)
    tensors = (value.const_value for value in model.graph.initializers.values())
    if sum(t.nbytes for t in tensors if t is not None) <= LARGE_BYTES:
        with written_whole(path) as file:
            file.write(to_proto(model).SerializeToString())
        return [path]
    data = path.with_name(f"{path.name}.data")
    check_output(data)
    try:
        ir.save(model, path, external_data=data.name)
    except OSError as error:
        raise XbarcError(f"can't write {path}: {error.strerror or error}") from None
    return [path, data]
