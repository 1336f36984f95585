"""torch modules through torch.export and TVM's importer, against torch."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from models import reference
from relax_modules import deviation

from xbarc.frontends.onnx.importer import load
from xbarc.frontends.relax.importer import load_relax
from xbarc.graph.serialize import to_proto

pytest.importorskip("tvm", reason="apache-tvm isn't installed: pip install xbarc[tvm]")
torch = pytest.importorskip("torch", reason="torch isn't installed: pip install xbarc[train]")

nn, F = torch.nn, torch.nn.functional

MAP = (2, 3, 8, 8)


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class SqueezeExcite(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.squeeze = nn.Conv2d(8, 2, 1)
        self.excite = nn.Conv2d(2, 8, 1)

    def forward(self, x):
        x = self.conv(x)
        scale = F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))
        return x * F.hardsigmoid(self.excite(scale))


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x):
        return F.relu(x + self.norm(self.conv(x)))


MODULES = {
    "conv1d": (lambda: nn.Conv1d(3, 4, 3, stride=2, padding=1), (2, 3, 9)),
    "conv2d, grouped": (lambda: nn.Conv2d(3, 6, 3, stride=2, padding=1, dilation=2, groups=3), MAP),
    "conv2d, circular": (lambda: nn.Conv2d(3, 6, 3, padding=1, padding_mode="circular"), MAP),
    "conv3d": (lambda: nn.Conv3d(2, 3, 3), (1, 2, 5, 6, 7)),
    "deconv1d": (lambda: nn.ConvTranspose1d(3, 4, 3, stride=2, output_padding=1), (2, 3, 7)),
    "deconv2d": (lambda: nn.ConvTranspose2d(3, 4, 3, 2, padding=1, output_padding=1), MAP),
    "deconv2d, grouped": (lambda: nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), (1, 4, 5, 5)),
    "linear": (lambda: nn.Linear(8, 5), (2, 3, 8)),
    "classifier": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 9), nn.ReLU(), nn.LogSoftmax(1)),
        MAP,
    ),
    "batch norm": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU6()), MAP),
    "layer norm": (lambda: nn.LayerNorm([3, 8, 8]), MAP),
    "group norm": (lambda: nn.GroupNorm(2, 6), (2, 6, 4, 4)),
    "instance norm": (lambda: nn.InstanceNorm2d(3, affine=True), MAP),
    "rms norm": (lambda: nn.RMSNorm(8), (2, 3, 8)),
    "max pool": (lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True), (2, 3, 9, 8)),
    "average pool": (lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), MAP),
    "adaptive pool": (lambda: nn.AdaptiveAvgPool2d((3, 2)), (1, 3, 7, 8)),
    "upsample, nearest": (lambda: nn.Upsample(scale_factor=2), MAP),
    "upsample, bilinear": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), MAP),
    "upsample, corners": (
        lambda: nn.Upsample(size=(11, 13), mode="bilinear", align_corners=True),
        MAP,
    ),
    "upsample, bicubic": (lambda: nn.Upsample(scale_factor=2, mode="bicubic"), MAP),
    "pixel shuffle": (lambda: nn.PixelShuffle(2), (1, 8, 3, 4)),
    "reflection pad": (lambda: nn.ReflectionPad2d((1, 2, 0, 3)), MAP),
    "replication pad": (lambda: nn.ReplicationPad2d((1, 2, 0, 3)), MAP),
    "squeeze and excitation": (SqueezeExcite, MAP),
    "residual": (Residual, MAP),
    "attention": (SelfAttention, (2, 5, 16)),
    "causal attention": (
        lambda: Lambda(lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True)),
        (2, 4, 5, 8),
    ),
    "encoder": (lambda: nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), (2, 5, 16)),
    "lstm": (lambda: nn.LSTM(4, 5, batch_first=True), (2, 3, 4)),
    "split": (lambda: Lambda(lambda x: x.split([1, 3], 1)), (2, 4, 3)),
    "slice": (lambda: Lambda(lambda x: x[:, 1:, ::2, :-1]), MAP),
    "permute": (lambda: Lambda(lambda x: x.permute(0, 2, 3, 1).reshape(2, -1, 3)), MAP),
    "statistics": (lambda: Lambda(lambda x: x.var(1) + x.std(1) + x.mean(1)), (3, 5)),
    "gather": (
        lambda: Lambda(lambda x: x.gather(1, torch.tensor([[0, 1], [1, 2], [2, 0]]))),
        (3, 5),
    ),
    "advanced index": (
        lambda: Lambda(lambda x: x[torch.tensor([0, 2]), torch.tensor([1, 3])]),
        (3, 5),
    ),
    **{
        kind: (getattr(nn, kind), (3, 7))
        for kind in ("ELU", "GELU", "Hardsigmoid", "Hardswish", "LeakyReLU", "Mish", "SiLU",
                     "Softplus", "Softsign", "Tanhshrink")
    },
}  # fmt: skip


def filled(module):
    """Running statistics and scales as after training: none is 0 or 1."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
        for tensor in (getattr(part, "weight", None), getattr(part, "bias", None)):
            if "Norm" in type(part).__name__ and tensor is not None:
                tensor.data.normal_()
    return module.eval()


def tensors(result):
    if torch.is_tensor(result):
        return [result.detach().numpy()]
    return [tensor for item in result for tensor in tensors(item)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODULES)
def test_module(name):
    from tvm.relax.frontend.torch import from_exported_program

    make, shape = MODULES[name]
    torch.manual_seed(0)
    module, x = filled(make()), 2 * torch.randn(*shape)
    exported = torch.export.export(module, (x,))
    model = to_proto(load(load_relax(from_exported_program(exported, run_ep_decomposition=True))))
    found = list(reference(model, {model.graph.input[0].name: x.numpy()}).values())
    for want, got in zip(tensors(module(x)), found, strict=True):
        assert deviation(want, got) < 1e-5


@pytest.mark.filterwarnings("ignore")
def test_the_example_imports_as_torch_computes_it():
    pytest.importorskip("sklearn", reason="the example's images: pip install xbarc[demo]")
    demo = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "torch_export" / "demo.py"))
    torch.manual_seed(0)
    network, x = filled(demo["Network"]()), torch.rand(3, 1, 8, 8)
    model = to_proto(load(load_relax(demo["to_relax"](network, x))))
    (found,) = reference(model, {model.graph.input[0].name: x.numpy()}).values()
    assert deviation(network(x).detach().numpy(), found) < 1e-5


@pytest.mark.filterwarnings("ignore")
def test_weights_as_parameters_are_passed_by_position():
    from tvm.relax.frontend import detach_params
    from tvm.relax.frontend.torch import from_exported_program

    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 3)).eval()
    x = torch.randn(4, 8)
    exported = torch.export.export(module, (x,))
    mod, params = detach_params(from_exported_program(exported, keep_params_as_input=True))
    model = to_proto(load(load_relax(mod, params)))
    (found,) = reference(model, {model.graph.input[0].name: x.numpy()}).values()
    assert deviation(module(x).detach().numpy(), found) < 1e-5


@pytest.mark.filterwarnings("ignore")
def test_an_open_batch_stays_open():
    from tvm.relax.frontend.torch import from_exported_program

    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5)).eval()
    x = torch.randn(4, 3, 8, 8)
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(module, (x,), dynamic_shapes=({0: batch},))
    model = to_proto(load(load_relax(from_exported_program(exported))))
    key = model.graph.input[0].name
    assert not model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    for samples in (1, 4):
        (found,) = reference(model, {key: x[:samples].numpy()}).values()
        assert deviation(module(x[:samples]).detach().numpy(), found) < 1e-5
    assert np.isfinite(found).all()
