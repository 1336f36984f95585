"""The table of operators: what it refuses, that all of it is tested, and documented."""

import re
from pathlib import Path

import numpy as np
import pytest
from relay_programs import program
from test_tvm_elementwise import BINARY, UNARY
from test_tvm_quantized import QUANTISED_UNARY

from xbarc.frontends.registry import load
from xbarc.frontends.tvm_ops import OPERATORS
from xbarc.support.errors import XbarcError


def refusal(body, **shapes):
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    with pytest.raises(XbarcError) as caught:
        load(program(body, arrays), complete=False)
    return str(caught.value)


def test_all_that_is_unknown_is_named_at_once():
    text = refusal(
        "%0 = vision.nms(%x);\n%1 = nn.relu(%0);\n%2 = foo(%1);\n%3 = foo(%x);\n"
        "%4 = nn.softmax(%x, temperature=2f);\nadd(%3, %4)",
        x=(2, 3),
    )
    lines = text.splitlines()
    assert len(lines) == 3
    assert "vision.nms: no such operator" in lines[0]
    assert "foo: no such operator is known to xbarc (2 times)" in lines[1]
    assert "nn.softmax: attribute 'temperature'" in lines[2]


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ('nn.conv2d(%x, %w, data_layout="NCHW4c")', "layout 'NCHW4c'"),
        ("nn.conv2d(%x, %w, kernel_size=[5, 5])", "kernel_size (5, 5)"),
        ("nn.conv2d(%x, %w, channels=9)", "channels 9"),
        ("nn.conv2d(%x)", "lacks 'w'"),
        ("nn.conv2d(%x, %w, %w)", "takes 2 arguments at most, not 3"),
        ("nn.softmax(%x, axis=7)", "axis 7 of a value of 4 dimensions"),
        ("reshape(%x, newshape=[7, 7])", "reshape: doesn't fit"),
        ("add(%x, %w)", "add: doesn't fit its arguments"),
        ('cast(%x, dtype="float17")', "element type 'float17'"),
        ("split(%x, indices_or_sections=3, axis=1)", "4 in 3 equal parts"),
        ("clip(%x, a_min=%w, a_max=1f)", "expected"),
        ("transpose(%x, axes=[0, 1])", "axes (0, 1) of 4"),
        ('nn.pad(%x, 0f, pad_width=[[1, 1]], pad_mode="edge")', "pad_width (1, 1)"),
        ("qnn.requantize(%x, %w, 0, 1f, 0)", "needs a constant scale"),
        ("batch_matmul(%x, %w)", "no such operator"),
        ("nn.avg_pool2d(%x, pool_size=[2, 2], padding=[2, 2])", "as wide as the window"),
    ],
)
def test_refusals_say_what_and_where(body, what):
    text = refusal(body, x=(1, 4, 5, 5), w=(2, 4, 3, 3))
    assert len(text.splitlines()) == 1
    assert what in text


def test_every_operator_of_the_table_is_called_here():
    """In the files of the families, and here."""
    files = sorted(Path(__file__).parent.glob("test_tvm_*.py"))
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    texts = [
        text.replace("{kind}", kind).replace("{space}", n) for kind in ("max", "avg") for n in "123"
    ]
    called = {name for found in texts for name in re.findall(r"(?<![\w.])([a-z][\w.]*)\(", found)}
    listed = {*UNARY, *BINARY, *(f"qnn.{name}" for name in QUANTISED_UNARY)}
    listed |= {"sum", "mean", "max", "min", "prod"}  # test_reductions
    assert sorted(set(OPERATORS) - called - listed) == []


def test_every_operator_of_the_table_is_documented():
    text = (Path(__file__).parents[1] / "docs" / "tvm.md").read_text(encoding="utf-8")
    families = text.partition("| family | operators |")[2].partition("\n\n")[0]
    listed = set(re.findall(r"`([\w.]+)`", families))
    convolutions = {f"nn.conv{n}d{end}" for n in (1, 2, 3) for end in ("", "_transpose")}
    pools = {name for name in OPERATORS if name.startswith("nn.") and "_pool" in name}
    assert {f"nn.{kind}_pool" for kind in ("max", "avg", "global_max", "adaptive_avg")} <= listed
    shorthand = {name for name in listed if name.endswith("_pool")} | {
        "1d",
        "2d",
        "3d",
        "_transpose",
    }
    assert (listed - shorthand) | convolutions | pools == set(OPERATORS)
