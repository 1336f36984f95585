"""Real networks with real weights, compiled and simulated, against onnxruntime in float."""

import os
from pathlib import Path

import numpy as np
import onnx.backend.test
import pytest
from models import reference, snr_db

import xbarc
from xbarc.graph.run import random_inputs

LEAST_SNR_DB = 22
SAMPLES = 4
LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"
SHARED = os.environ.get("XBARC_DATA")
needs_data = pytest.mark.skipif(SHARED is None, reason="XBARC_DATA isn't set")

MODELS = [
    "mnist-8",
    "mnist_mlp_256x4",
    "unet_sed",
    "ppocr_cls_se",
    "ultraface_slim_320",
    "super_resolution",
    "micro_kws_fp32",
    "micro_kws_qdq",
    "micro_kws_qoperator",
    "mobilenetv1_025_vww96",
    "resnet20_cifar10",
]
SHAPES = {"ppocr_cls_se": {"x": [1, 3, 48, 192]}}

# Operators with weights that stay digital, and why.
DIGITAL = {"unet_sed": 2}  # its two ConvTranspose


def data(name, key):
    with np.load(Path(SHARED) / "data" / f"{name}.npz") as file:
        return file[key]


def inputs(name, model):
    """Real inputs where the data are there, else normal ones."""
    if name in ("mnist-8", "mnist_mlp_256x4"):
        images = data("mnist", "x_test")[:SAMPLES].astype(np.float32)
        if name == "mnist-8":
            return {"Input3": images.transpose(0, 3, 1, 2)}
        return {"0": (images / 255).reshape(SAMPLES, 784, 1)}
    if name == "unet_sed":
        with np.load(Path(SHARED) / "models" / "unet_sed_data" / "pairs.npz") as file:
            return {"input": file["x"][:1]}
    if name == "resnet20_cifar10":
        return {"input": cifar(data("cifar10", "x_test")[:SAMPLES])}
    from xbarc.frontends.onnx import load

    return random_inputs(load(model, SHAPES.get(name, {})), 1, seed=1)


def cifar(pixels):
    """CIFAR-10 images as the ResNet was trained on."""
    mean = np.array([0.485, 0.456, 0.406], np.float32)
    deviation = np.array([0.229, 0.224, 0.225], np.float32)
    return ((pixels / np.float32(255) - mean) / deviation).transpose(0, 3, 1, 2).copy()


def in_float(model, feeds):
    """The float outputs, one sample at a time: some of the models take no more."""
    samples = len(next(iter(feeds.values())))
    runs = [
        reference(str(model), {k: v[i : i + 1] for k, v in feeds.items()}) for i in range(samples)
    ]
    return {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}


@needs_data
@pytest.mark.parametrize("target", ["mca64", "mca128", "mca256"])
@pytest.mark.parametrize("name", MODELS)
def test_it_compiles_runs_and_is_close_to_float(name, target):
    model = Path(SHARED) / "models" / f"{name}.onnx"
    feeds = inputs(name, model)
    program = xbarc.compile(model, target, calibration=feeds, input_shapes=SHAPES.get(name))
    assert len(program.report["coverage"]["digital_reasons"]) == DIGITAL.get(name, 0)
    outputs = program.run(feeds)
    expected = in_float(model, feeds)
    assert outputs.keys() == expected.keys()
    for output, want in expected.items():
        assert outputs[output].shape == want.shape
        assert snr_db(want, outputs[output]) > LEAST_SNR_DB, output


@needs_data
def test_resnet20_classifies_cifar10_as_well_as_float():
    model = Path(SHARED) / "models" / "resnet20_cifar10.onnx"
    images = cifar(data("cifar10", "x_test")[:2000])
    labels = data("cifar10", "y_test")[:2000]
    calibration = cifar(data("cifar10", "x_train")[:256])
    program = xbarc.compile(model, "mca128", calibration=calibration)
    crossbars = np.mean(program.run(images)["logits"].argmax(1) == labels)
    in_float = np.mean(reference(str(model), {"input": images})["logits"].argmax(1) == labels)
    assert abs(crossbars - in_float) <= 0.005


@needs_data
def test_a_run_repeats_to_the_bit_whatever_the_batch():
    model = Path(SHARED) / "models" / "resnet20_cifar10.onnx"
    images = cifar(data("cifar10", "x_test")[:12])
    program = xbarc.compile(model, "mca128", calibration=images, overrides=["adc.mode=full-scale"])
    results = [program.run(images, batch=batch)["logits"] for batch in (1, 5, 12)]
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


@pytest.mark.parametrize("path", sorted(LIGHT.glob("light_*.onnx")), ids=lambda p: p.stem)
def test_the_onnx_packages_networks_compile(path):
    program = xbarc.compile(path, "mca128")
    assert program.report["coverage"]["digital_reasons"] == {}
    assert program.report["coverage"]["mac_share"] == 1
    assert program.report["totals"]["crossbars"] > 0


def test_the_tile_ir_of_a_large_network_is_small(tmp_path):
    xbarc.compile(LIGHT / "light_vgg19.onnx", "mca64").save(tmp_path / "vgg19.xbar")
    assert (tmp_path / "vgg19.xbar" / "program.mlir").stat().st_size < 200_000
