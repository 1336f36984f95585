"""Real networks through TVM's ONNX importer and back, against onnxruntime on the ONNX model."""

from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
import onnx.helper
import onnx.numpy_helper
import pytest
from models import reference
from relax_modules import deviation
from shared import SHARED, needs_shared

from xbarc.frontends.onnx.importer import load
from xbarc.frontends.relax.importer import load_relax
from xbarc.graph.serialize import to_proto

pytest.importorskip("tvm", reason="apache-tvm isn't installed: pip install xbarc[tvm]")

LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"

MODELS = [
    "micro_kws_fp32",
    "micro_kws_qdq",
    "mnist-8",
    "mnist_mlp_256x4",
    "mobilenetv1_025_vww96",
    "resnet20_cifar10",
    "super_resolution",
    "ultraface_slim_320",
    "unet_sed",
]
REFUSED = {
    "micro_kws_qoperator": "operators are not supported for frontend ONNX: .*QLinear",
    "ppocr_cls_se": "Reshape requires the input new shape to be Shape",
}
"""What TVM 0.27 refuses, and in what words; `docs/tvm.md` has the list."""

SHAPES = {"ppocr_cls_se": {"x": [1, 3, 48, 192]}}
LIGHT_MODELS = [
    "densenet121",
    "inception_v1",
    "inception_v2",
    "resnet50",
    "shufflenet",
    "squeezenet",
]
LARGE = ["bvlc_alexnet", "vgg19", "zfnet512"]
"""Chains of up to 140 million weights: once, with their own."""


def path_of(name):
    return SHARED / "models" / f"{name}.onnx"


def input_of(model, shape=None):
    """The one true input, and normal values for it."""
    stored = {tensor.name for tensor in model.graph.initializer}
    (value,) = (value for value in model.graph.input if value.name not in stored)
    sizes = shape or [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
    return value.name, np.random.default_rng(0).standard_normal(sizes).astype(np.float32)


def through_tvm(model, *, keep_params):
    """The model's graph after ONNX -> Relax -> ONNX."""
    from tvm.relax.frontend import detach_params
    from tvm.relax.frontend.onnx import from_onnx

    module, params = from_onnx(model, keep_params_in_input=keep_params), None
    if keep_params:
        module, params = detach_params(module)
    return to_proto(load(load_relax(module, params)))


def check(model, shape=None, ways=(False, True)):
    name, x = input_of(model, shape)
    expected = list(reference(model, {name: x}).values())
    for keep_params in ways:
        imported = through_tvm(model, keep_params=keep_params)
        (value,) = imported.graph.input
        found = list(reference(imported, {value.name: x}).values())
        for want, got in zip(expected, found, strict=True):
            assert deviation(want, got) < 1e-4


@needs_shared
@pytest.mark.filterwarnings("ignore:Renaming name")
@pytest.mark.parametrize("name", MODELS)
def test_model(name):
    check(onnx.load(path_of(name)))


@needs_shared
@pytest.mark.parametrize("name", REFUSED)
def test_what_tvm_refuses(name):
    from tvm.relax.frontend.onnx import from_onnx

    with pytest.raises(Exception, match=REFUSED[name]) as error:
        from_onnx(onnx.load(path_of(name)), shape_dict=SHAPES.get(name))
    print(f"{name}: apache-tvm refuses it: {error.value}")


@needs_shared
def test_the_list_of_refused_models_is_whole():
    assert {p.stem for p in (SHARED / "models").glob("*.onnx")} == {*MODELS, *REFUSED}


@needs_shared
def test_what_tvm_refuses_for_its_shapes_it_takes_once_they_are_computed():
    """Squeeze-and-excitation, hard sigmoids: simplified by the ONNX importer first."""
    shapes = SHAPES["ppocr_cls_se"]
    model = to_proto(load(path_of("ppocr_cls_se"), shapes))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    check(model, shapes["x"])


def weighted(model):
    """A light model with random weights: its own are one number each, and hide what is swapped."""
    rng = np.random.default_rng(0)
    shapes = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type != "ConstantOfShape" or node.input[0] not in shapes:
            nodes.append(node)
            continue
        sizes = [int(size) for size in shapes[node.input[0]]]
        array = rng.random(sizes, np.float32) - 0.5
        if len(sizes) == 1:
            array += 1  # a variance is positive
        else:
            array *= (12 / np.prod(sizes[1:])) ** 0.5
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


@pytest.mark.filterwarnings("ignore:Renaming name")
@pytest.mark.parametrize("name", LIGHT_MODELS)
def test_light_model(name):
    check(weighted(onnx.load(LIGHT / f"light_{name}.onnx")))


@pytest.mark.parametrize("name", LARGE)
def test_large_light_model(name):
    check(onnx.load(LIGHT / f"light_{name}.onnx"), ways=[False])


def test_the_light_models_are_all_there():
    assert {p.stem for p in LIGHT.glob("*.onnx")} == {f"light_{m}" for m in LIGHT_MODELS + LARGE}
