"""Relax modules in files: what is read, and that nothing in them runs or crashes."""

import base64
import contextlib
import json
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import reference
from relax_modules import arrays_of, deviation, module_of

import xbarc
from xbarc.frontends.onnx.importer import load
from xbarc.frontends.relax.frontend import form_of
from xbarc.frontends.relax.importer import load_relax
from xbarc.frontends.relax.serialized import load_file
from xbarc.graph.serialize import to_proto
from xbarc.support.errors import XbarcError

tvm = pytest.importorskip("tvm", reason="apache-tvm isn't installed: pip install xbarc[tvm]")

SIGNATURE = "x:2x3x6x6 w:4x3x3x3 b:4"
EXPRESSION = "R.nn.relu(R.add(R.nn.conv2d(x, w, padding=1, groups=1), R.reshape(b, (1, 4, 1, 1))))"
SCRIPT = """
from tvm.script import ir as I, relax as R

@I.ir_module
class Module:
    @R.function
    def main(x: R.Tensor(({expression}, 3), "float32")):
        return x
"""


@pytest.fixture(scope="module")
def arrays():
    return arrays_of(SIGNATURE)


@pytest.fixture(scope="module")
def bound(arrays):
    """The module with its weights in it, as text."""
    from tvm import relax

    weights = {key: arrays[key] for key in ("w", "b")}
    module = relax.transform.BindParams("main", weights)(module_of(SIGNATURE, EXPRESSION))
    return module, tvm.ir.save_json(module)


def written(tmp_path, nodes, root=0, version=tvm.__version__):
    path = tmp_path / "net.json"
    document = {"root_index": root, "nodes": nodes, "metadata": {"tvm_version": version}}
    path.write_text(json.dumps(document))
    return path


# --- What works ----------------------------------------------------------------------------------


def test_a_module_reads_as_it_is_in_memory(bound, arrays, tmp_path):
    module, text = bound
    path = tmp_path / "net.json"
    path.write_text(text)
    assert form_of(path) == "json"
    found = reference(to_proto(load(load_file(path))), {"x": arrays["x"]})
    want = reference(to_proto(load(load_relax(module))), {"x": arrays["x"]})
    for key in want:
        np.testing.assert_array_equal(found[key], want[key])


@pytest.mark.parametrize("form", ["npz", "params"])
def test_the_command_line_takes_weights_apart(form, arrays, tmp_path):
    model = tmp_path / "net.json"
    model.write_text(tvm.ir.save_json(module_of(SIGNATURE, EXPRESSION)))
    weights = {key: arrays[key] for key in ("w", "b")}
    params = tmp_path / f"net.{form}"
    if form == "npz":
        np.savez(params, **weights)
    else:
        tensors = {key: tvm.runtime.tensor(array) for key, array in weights.items()}
        tvm.runtime.save_param_dict_to_file(tensors, str(params))
    np.savez(tmp_path / "x.npz", x=arrays["x"])
    done = xbarc_cli("compile", model, "--params", params, "--target", "mca128",
                     "--calibration", tmp_path / "x.npz", "-o", tmp_path / "net.xbar")  # fmt: skip
    assert done.returncode == 0, done.stderr
    program = xbarc.load(tmp_path / "net.xbar")
    (found,) = program.run(arrays["x"]).values()
    imported = to_proto(load(load_relax(module_of(SIGNATURE, EXPRESSION), weights)))
    (want,) = reference(imported, {"x": arrays["x"]}).values()
    assert deviation(want, found.astype(want.dtype)) < 0.05


def xbarc_cli(*arguments, **environment):
    code = "import sys; from xbarc.cli import main; sys.argv = ['xbarc', *sys.argv[1:]]; main()"
    if environment.get("without_tvm"):
        code = "import sys; sys.modules['tvm'] = None; " + code
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("command", [("compile", "--target", "mca128"), ("opt", "-o", "a.onnx")])
def test_without_tvm_the_extra_is_named(bound, command, tmp_path):
    path = tmp_path / "net.json"
    path.write_text(bound[1])
    done = xbarc_cli(*command, path, without_tvm=True)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"xbarc: {path} is a Relax module, which apache-tvm reads: pip install 'xbarc[tvm]'"
    )


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (b'{\n  "nodes" : []', "json"),
        (b'{"root_index":1', "json"),
        (b"# from tvm.script import ir as I\n@I.ir_module", "script"),
        (b"import tvm\n", "script"),
        (b'{"irVersion": "8", "graph": {}}', None),  # ONNX's own JSON
        (b"\x08\x08\x00doc\n@I.ir_module", None),
        (b'#[version = "0.0.5"]\ndef @main() {}', None),
        (b"", None),
    ],
)
def test_a_file_is_told_by_its_beginning(content, form, tmp_path):
    path = tmp_path / "net"
    path.write_bytes(content)
    assert form_of(path) == form


def test_no_file_is_no_relax_file(tmp_path):
    assert form_of(tmp_path / "absent.json") is None


# --- Nothing runs --------------------------------------------------------------------------------


def test_parsing_tvmscript_runs_what_is_in_it(tmp_path):
    """Why it is refused. If TVM ever changes this, the refusal can go."""
    from tvm.script import from_source

    proof = tmp_path / "proof"
    expression = f"tvm.base.os.system('touch {proof}')"
    text = SCRIPT.format(expression=expression).replace(
        "from tvm.script import ir as I, relax as R", ""
    )
    from_source(text)
    assert proof.exists()


def test_tvmscript_is_refused_from_the_command_line(tmp_path):
    proof = tmp_path / "proof"
    path = tmp_path / "net.py"
    path.write_text(SCRIPT.format(expression=f"open({str(proof)!r}, 'w').write('x')"))
    done = xbarc_cli("compile", path, "--target", "mca128")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "load it yourself and pass the IRModule to xbarc.compile" in done.stderr
    assert not proof.exists()


def tensor(sizes, data, *, dimensions=None, count=None):
    count = len(data) if count is None else count
    head = struct.pack("<QQiiiBBH", 0xDD5E40F096B4A13F, 0, 1, 0,
                       len(sizes) if dimensions is None else dimensions, 2, 32, 1)  # fmt: skip
    body = head + struct.pack(f"<{len(sizes)}qq", *sizes, count) + data
    return base64.b64encode(body).decode()


NODES = {
    "code": ([{"type": "ffi.Module", "data": "AAAA"}], "is a ffi.Module, which is no part"),
    "function": ([{"type": "ir.EnvFunc", "data": "node.LoadJSON"}], "is a ir.EnvFunc, which is no"),
    "unknown": ([{"type": "foo.Bar", "data": {}}], "is a foo.Bar, which is no part of a network"),
    "cycle": ([{"type": "ffi.Array", "data": [0]}], "node 0 holds itself"),
    "long cycle": (
        [{"type": "ffi.Array", "data": [1]}, {"type": "ffi.Array", "data": [0]}],
        "node 0 holds itself",
    ),
    "nested": (
        [{"type": "ffi.Array", "data": [i + 1]} for i in range(20000)]
        + [{"type": "ffi.Array", "data": []}],
        "nodes inside each other more than 1000 deep",
    ),
    "nested, from its end": (
        [{"type": "ffi.Array", "data": []}]
        + [{"type": "ffi.Array", "data": [i]} for i in range(20000)],
        "nodes inside each other more than 1000 deep",
    ),
    "dangling": ([{"type": "ffi.Array", "data": [7]}], "holds a node that there isn't"),
    "negative": ([{"type": "ffi.Array", "data": [-1]}], "holds a node that there isn't"),
    "no module": ([{"type": "ffi.Array", "data": []}], "holds no module but a Array"),
    "huge tensor": ([{"type": "ffi.Tensor", "data": tensor([1 << 40], b"", count=1 << 42)}], "net"),
    "negative size": ([{"type": "ffi.Tensor", "data": tensor([-1], b"", count=-4)}], "shape"),
    "many dimensions": (
        [{"type": "ffi.Tensor", "data": tensor([1], b"1234", dimensions=1 << 30)}],
        "dimensions",
    ),
    "short tensor": ([{"type": "ffi.Tensor", "data": tensor([2], b"1234", count=8)}], "cut short"),
    "no base64": ([{"type": "ffi.Tensor", "data": "?"}], "isn't base64"),
    "missing field": ([{"type": "ir.IntImm", "data": {}}], "isn't JSON as tvm.ir.save_json"),
    "no data": ([{"type": "ffi.Array"}], "isn't JSON as tvm.ir.save_json writes it"),
    "no type": ([{}], "isn't JSON as tvm.ir.save_json writes it"),
}


@pytest.mark.parametrize("name", NODES)
def test_crafted_nodes_end_in_one_line(name, tmp_path):
    nodes, problem = NODES[name]
    with pytest.raises(XbarcError, match=problem) as error:
        load_file(written(tmp_path, nodes))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    ['{"root_index": 0}', '{"nodes": 3}', '{"nodes": ', '{"nodes": ' + "[" * 100000, "{}", "\xff"],
)
def test_other_text_ends_in_one_line(text, tmp_path):
    path = tmp_path / "net.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(XbarcError) as error:
        load_file(path)
    assert len(str(error.value).splitlines()) == 1


def test_other_versions_files_are_refused(tmp_path):
    with pytest.raises(XbarcError, match=r"was written by apache-tvm 0\.19\.0, and 0\.\d+"):
        load_file(written(tmp_path, [], version="0.19.0"))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_modules_end_in_a_line_or_load(bound, tmp_path_factory, data):
    document = json.loads(bound[1])
    nodes = document["nodes"]
    number = st.integers(-1, len(nodes))
    for _ in range(data.draw(st.integers(1, 3))):
        node = nodes[data.draw(st.integers(0, len(nodes) - 1))]
        held = node.get("data")
        if isinstance(held, dict) and held:
            field = data.draw(st.sampled_from(sorted(held)))
            held[field] = data.draw(number | st.none() | st.booleans() | st.text(max_size=3))
        elif isinstance(held, list) and held:
            held[data.draw(st.integers(0, len(held) - 1))] = data.draw(number)
        else:
            node["data"] = data.draw(st.integers() | st.none() | st.text(max_size=8))
    path = tmp_path_factory.mktemp("damaged") / "net.json"
    path.write_text(json.dumps(document))
    with contextlib.suppress(XbarcError):  # any other exception, or a crash, fails
        load(load_file(path))
