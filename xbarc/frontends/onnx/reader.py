"""ONNX models from files and from memory, checked by onnx, as `onnx_ir` has them."""

import heapq
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import google.protobuf.json_format
import google.protobuf.message
import google.protobuf.text_format
import onnx
import onnx.parser
import onnx_ir as ir

from xbarc.frontends.onnx.qonnx import DOMAINS
from xbarc.frontends.onnx.weights import UNREADABLE, check_tensor, line
from xbarc.graph.serialize import SMALL_BYTES, external_tensors, read_in, without_weights
from xbarc.support.errors import UsageError, XbarcError

NEWEST_IR = 10
"""A newer version of ONNX's file format is read as this one, which every onnxruntime takes: what a
graph holds says whether it can be run, not the number."""

PARSE_ERRORS = (
    google.protobuf.message.DecodeError,
    google.protobuf.text_format.ParseError,
    google.protobuf.json_format.ParseError,
    onnx.parser.ParseError,
    UnicodeDecodeError,
)


MALFORMED = (
    ir.serde.SerdeError,
    AssertionError,
    AttributeError,
    KeyError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What reading fields that contradict each other, or text that isn't UTF-8, ends in."""


def read(source: str | Path | onnx.ModelProto | ir.Model) -> ir.Model:
    """The model as it is, checked by onnx; what lies in memory isn't changed.

    Tensors in other files are read from the model's own folder only; large ones stay mapped.

    Raises:
        UsageError: `source` is none of these.
        XbarcError: it isn't a valid model, or a tensor of it can't be read.
    """
    if isinstance(source, ir.Model):
        clone = source.clone()
        _read_external(clone, None)
        try:
            _check_proto(without_weights(clone), "the model")
        except MALFORMED as error:
            raise XbarcError(f"the model can't be read: {root_cause(error)}") from error
        return clone
    if isinstance(source, onnx.ModelProto):
        return _from_proto(source, "the model", None)
    if isinstance(source, str | Path):
        folder = os.path.dirname(os.path.abspath(source))
        return _from_proto(_read_file(Path(source)), str(source), folder)
    raise UsageError(
        "a model is a path, an onnx.ModelProto or an onnx_ir.Model, "
        f"not of type {type(source).__name__}"
    )


def _from_proto(proto: onnx.ModelProto, where: str, folder: str | None) -> ir.Model:
    if not proto.HasField("graph") or not proto.opset_import:
        raise XbarcError(f"{where} isn't an ONNX model: it has no graph or no opset")
    if not proto.graph.output:
        raise XbarcError(f"{where} has no outputs: nothing to compile")
    _refuse_sparse(proto, where)
    proto = _sorted(proto)
    try:
        _check_proto(proto, where)
        model = ir.from_proto(proto)
        model.graph.opset_imports.update(dict.fromkeys(_unimported(proto), 1))
    except MALFORMED as error:
        raise XbarcError(f"{where} can't be read: {root_cause(error)}") from error
    _read_external(model, folder)
    return model


def _read_external(model: ir.Model, folder: str | None) -> None:
    """Read small tensors of other files, and try the large ones; `folder` is the model's.

    Without one, tensors must know their folder already.
    """
    for what, tensor, put in external_tensors(model):
        if folder is not None:
            tensor.base_dir = folder
        check_tensor(what, tensor)
        try:
            tensor.numpy()
            small = tensor.nbytes <= SMALL_BYTES
        except UNREADABLE as error:
            raise XbarcError(f"{what} can't be read: {line(error)}") from error
        if small:
            put(read_in(tensor))


def _read_file(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path, load_external_data=False)
    except PARSE_ERRORS as error:
        raise XbarcError(f"{path} isn't an ONNX model, or is cut short: {line(error)}") from error
    except OSError as error:
        raise XbarcError(f"{path} can't be read: {error.strerror}") from error


def _check_proto(proto: onnx.ModelProto, where: str) -> None:
    """onnx's own checker, on a copy whose large tensors are inputs: it stays in Python's heap."""
    skeleton = onnx.ModelProto(ir_version=min(max(proto.ir_version, 4), NEWEST_IR))
    skeleton.opset_import.extend(proto.opset_import)
    for domain in _unimported(proto):
        skeleton.opset_import.add(domain=domain, version=1)
    skeleton.functions.extend(proto.functions)
    graph = skeleton.graph
    graph.name = proto.graph.name or "graph"
    graph.input.extend(proto.graph.input)
    graph.output.extend(proto.graph.output)
    for value in (*graph.input, *graph.output):
        # The checker asks for a rank, and for an output's type; onnxruntime and some exporters
        # don't. Inferring them here would expand functions, which aren't known to end yet.
        if not value.type.WhichOneof("value"):
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    given = {value.name for value in proto.graph.input}

    def add_input(name: str, tensor: onnx.TensorProto) -> None:
        if name not in given:
            info = onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims)
            graph.input.append(info)

    for tensor in proto.graph.initializer:
        add_input(tensor.name, tensor)
    for node in proto.graph.node:
        if node.op_type == "Constant" and node.ByteSize() > SMALL_BYTES and node.output:
            values = [attr.t for attr in node.attribute if attr.name == "value"]
            if values:
                add_input(node.output[0], values[0])
                continue
        graph.node.append(node)
    _forget_files(skeleton)
    try:
        onnx.checker.check_model(skeleton)
    except onnx.checker.ValidationError as error:
        raise XbarcError(f"{where} isn't a valid ONNX model: {line(error)}") from error


def _sorted(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its nodes in an order in which they can run; itself where they are, or can't.

    onnxruntime sorts too, and its own tool that converts to float16 leaves its Casts at the end.
    """
    nodes = list(proto.graph.node)
    maker = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    needs = [{maker[name] for name in _reads(node) if name in maker} for node in nodes]
    if all(max(need, default=-1) < index for index, need in enumerate(needs)):
        return proto
    readers: list[list[int]] = [[] for _ in nodes]
    for index, need in enumerate(needs):
        for source in need:
            readers[source].append(index)
    open_needs = [len(need) for need in needs]
    ready = [index for index, count in enumerate(open_needs) if not count]
    order = []
    while ready:
        index = heapq.heappop(ready)  # the order of the model where it is one
        order.append(nodes[index])
        for reader in readers[index]:
            open_needs[reader] -= 1
            if not open_needs[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(nodes):
        return proto  # it goes in a circle: onnx's checker says so
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    del result.graph.node[:]
    result.graph.node.extend(order)
    return result


def _reads(node: onnx.NodeProto) -> set[str]:
    """The values that a node reads, those that its subgraphs take from outside included."""
    waiting, names = [node], set()
    while waiting:
        inner = waiting.pop()
        names.update(inner.input)
        waiting.extend(n for graph in _held([inner]) for n in graph.node)
    return names


def _unimported(proto: onnx.ModelProto) -> list[str]:
    """QONNX's domains that nodes use and the model doesn't import: its tools write such models."""
    imported = {opset.domain for opset in proto.opset_import}
    used = {node.domain for node in _nodes(proto)}
    return sorted(used.intersection(DOMAINS) - imported)


def _forget_files(skeleton: onnx.ModelProto) -> None:
    """Empty tensors for those in other files: the checker looks for them in the working directory.

    They are checked where they are read.
    """
    for tensor in _tensors(skeleton):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.ClearField("data_location")
            tensor.ClearField("external_data")
            tensor.dims[:] = [0]


def _refuse_sparse(proto: onnx.ModelProto, where: str) -> None:
    for graph in _graphs(proto):
        for sparse in graph.sparse_initializer:
            raise XbarcError(
                f"initialiser {sparse.values.name!r} of {where} is sparse: "
                "store it as a dense tensor"
            )
    for node in _nodes(proto):
        if any(attr.HasField("sparse_tensor") or attr.sparse_tensors for attr in node.attribute):
            raise XbarcError(
                f"{node.op_type} {node.name!r} of {where} holds a sparse tensor: "
                "store it as a dense one"
            )


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor: initialisers and attributes, of subgraphs and functions too."""
    for graph in _graphs(proto):
        yield from graph.initializer
    for node in _nodes(proto):
        for attr in node.attribute:
            if attr.HasField("t"):
                yield attr.t
            yield from attr.tensors


def _nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node, of subgraphs and functions too."""
    for function in proto.functions:
        yield from function.node
    for graph in _graphs(proto):
        yield from graph.node


def _graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The graph, and the subgraphs of its nodes and of functions, however deep."""
    waiting = [proto.graph, *(g for f in proto.functions for g in _held(f.node))]
    while waiting:
        graph = waiting.pop()
        yield graph
        waiting.extend(_held(graph.node))


def _held(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    """The subgraphs that nodes hold themselves."""
    for node in nodes:
        for attr in node.attribute:
            if attr.HasField("g"):
                yield attr.g
            yield from attr.graphs


def root_cause(error: BaseException) -> str:
    """What was wrong first, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return line(error)
