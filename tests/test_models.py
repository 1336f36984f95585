"""Real networks, trained by others. `XBARC_DATA` names the folder with their models and data."""

from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
import pytest
from models import reference, snr_db
from shared import SHARED, needs_shared

import xbarc
from xbarc.ir import print_module
from xbarc.report.inspect import inspect

TARGETS = ["mca64", "mca128", "mca256"]
SHAPES = {"ppocr_cls_se": {"x": [1, 3, 48, 192]}}
MODELS = [
    "micro_kws_fp32",
    "micro_kws_qdq",
    "micro_kws_qoperator",
    "mnist-8",
    "mnist_mlp_256x4",
    "mobilenetv1_025_vww96",
    "ppocr_cls_se",
    "resnet20_cifar10",
    "super_resolution",
    "ultraface_slim_320",
    "unet_sed",
]
LIGHT = [
    "bvlc_alexnet",
    "densenet121",
    "inception_v1",
    "inception_v2",
    "resnet50",
    "shufflenet",
    "squeezenet",
    "vgg19",
    "zfnet512",
]
MEAN = np.array([0.485, 0.456, 0.406], np.float32).reshape(1, 3, 1, 1)
STD = np.array([0.229, 0.224, 0.225], np.float32).reshape(1, 3, 1, 1)


def cifar(images):
    """NHWC bytes as ResNet-20 wants them."""
    return (images.transpose(0, 3, 1, 2).astype(np.float32) / 255 - MEAN) / STD


def mnist(count):
    images = np.load(SHARED / "data" / "mnist.npz")["x_test"][:count]
    return images.reshape(count, 28, 28).astype(np.float32)


def inputs_of(name):
    """Real data where there is some, else standard normal."""
    rng = np.random.default_rng(0)
    if name == "mnist-8":
        return mnist(8)[:, None]
    if name == "mnist_mlp_256x4":
        return mnist(8).reshape(8, 784, 1) / 255
    if name == "unet_sed":
        return np.load(SHARED / "models" / "unet_sed_data" / "pairs.npz")["x"][:2]
    if name == "resnet20_cifar10":
        return cifar(np.load(SHARED / "data" / "cifar10.npz")["x_test"][:8])
    shapes = {
        "micro_kws_fp32": (8, 1960),
        "micro_kws_qdq": (8, 1960),
        "micro_kws_qoperator": (8, 1960),
        "mobilenetv1_025_vww96": (4, 3, 96, 96),
        "ppocr_cls_se": (4, 3, 48, 192),
        "super_resolution": (1, 1, 224, 224),
        "ultraface_slim_320": (1, 3, 240, 320),
    }
    return rng.standard_normal(shapes[name]).astype(np.float32)


def expected_of(name, inputs):
    """What onnxruntime gives, one static batch after the other."""
    model = str(SHARED / "models" / f"{name}.onnx")
    graph = onnx.load(model, load_external_data=False).graph
    stored = {i.name for i in graph.initializer}
    (value,) = (v for v in graph.input if v.name not in stored)
    step = value.type.tensor_type.shape.dim[0].dim_value
    step = step if step > 0 else len(inputs)
    parts = [
        reference(model, {value.name: inputs[i : i + step]}) for i in range(0, len(inputs), step)
    ]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


@needs_shared
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", MODELS)
def test_model(name, target):
    inputs = inputs_of(name)
    program = xbarc.compile(
        SHARED / "models" / f"{name}.onnx",
        target,
        calibration=inputs,
        input_shapes=SHAPES.get(name),
    )
    outputs = program.run(inputs)
    expected = expected_of(name, inputs)
    assert list(outputs) == list(expected)
    for key, want in expected.items():
        assert outputs[key].shape == want.shape
        assert snr_db(want, outputs[key]) > 22
    again = program.run(inputs)
    assert all(again[key].tobytes() == outputs[key].tobytes() for key in outputs)
    covered = program.report["coverage"]
    assert covered["crossbar_operators"] >= 3
    assert covered["digital_reasons"] == {}


@needs_shared
def test_resnet20_keeps_its_accuracy():
    data = np.load(SHARED / "data" / "cifar10.npz")
    images, labels = cifar(data["x_test"][:2000]), data["y_test"][:2000].reshape(-1)
    model = SHARED / "models" / "resnet20_cifar10.onnx"
    program = xbarc.compile(model, "mca128", calibration=cifar(data["x_train"][:256]))
    found = (program.run(images)["logits"].argmax(axis=1) == labels).mean()
    real = (reference(str(model), {"input": images})["logits"].argmax(axis=1) == labels).mean()
    assert real == pytest.approx(0.9045, abs=1e-4)
    assert found == pytest.approx(real, abs=0.005)


@needs_shared
@pytest.mark.parametrize("scheme", ["scatter", "phases"])
def test_a_unet_finds_what_it_was_trained_for(scheme):
    pairs = np.load(SHARED / "models" / "unet_sed_data" / "pairs.npz")
    x, wanted, model = pairs["x"], pairs["t"], SHARED / "models" / "unet_sed.onnx"
    program = xbarc.compile(
        model, "mca128", calibration=x[::5], passes=f"deconv{{scheme={scheme}}}"
    )
    rows = [row for row in program.report["layers"] if row["op"] == "ConvTranspose"]
    assert [row["mapping"] for row in rows] == [f"deconv-{scheme}"] * 2
    assert program.report["coverage"]["mac_share"] == 1

    def correlations(found):
        return np.array(
            [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(found, wanted, strict=True)]
        )

    (found,) = program.run(x).values()
    (real,) = expected_of("unet_sed", x).values()
    assert (correlations(found) >= correlations(real) - 0.01).all()
    assert correlations(real).min() > 0.8


@needs_shared
def test_every_squeeze_and_excitation_block_stands_on_crossbars():
    inputs, model = inputs_of("ppocr_cls_se"), SHARED / "models" / "ppocr_cls_se.onnx"
    plain, packed = (
        xbarc.compile(
            model,
            "mca128",
            calibration=inputs,
            input_shapes=SHAPES["ppocr_cls_se"],
            overrides=["array.cell_bits=7"],
            passes=passes,
        )
        for passes in ("", "squeeze-excitation")
    )
    blocks = inspect(plain)["blocks"]
    assert [block["channels"] for block in blocks] == [8, 32, 88, 88, 40, 48, 104, 200, 200]
    assert all(block["gate"] == "HardSigmoid" for block in blocks)
    assert plain.report["coverage"]["digital_reasons"] == {}
    crossbars = [block["crossbars"] for block in blocks]
    assert crossbars == [block["tiles"] for block in blocks] == [2, 2, 3, 3, 2, 2, 3, 6, 6]
    together = [block["crossbars"] for block in inspect(packed)["blocks"]]
    assert together == [1, 1, 1, 1, 1, 1, 3, 6, 6]
    (want,), (have,) = plain.run(inputs).values(), packed.run(inputs).values()
    assert have.tobytes() == want.tobytes()


@pytest.mark.parametrize("name", LIGHT)
def test_light_model(name):
    """The onnx package's own: real graphs with constant weights."""
    path = Path(onnx.backend.test.__file__).parent / "data" / "light" / f"light_{name}.onnx"
    program = xbarc.compile(path, "mca128")
    assert program.report["coverage"]["digital_reasons"] == {}
    assert program.report["coverage"]["mac_share"] == 1
    assert program.report["totals"]["crossbars"] > 100
    assert len(print_module(program.module)) < 200_000


@needs_shared
def test_a_run_repeats_to_the_bit_whatever_the_batch():
    model = SHARED / "models" / "resnet20_cifar10.onnx"
    images = cifar(np.load(SHARED / "data" / "cifar10.npz")["x_test"][:12])
    program = xbarc.compile(model, "mca128", calibration=images, overrides=["adc.mode=full-scale"])
    results = [program.run(images, batch=batch)["logits"].tobytes() for batch in (1, 5, 12)]
    assert results[0] == results[1] == results[2]
