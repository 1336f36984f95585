"""Names and patterns of layers in options."""

import pytest

from xbarc.support.errors import UsageError
from xbarc.support.names import named

KNOWN = ("conv1", "conv2", "res1.conv", "conv[1]", "fc")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ((), KNOWN),
        (("fc", "conv1"), ("conv1", "fc")),
        (("conv?",), ("conv1", "conv2")),
        (("conv[12]",), ("conv1", "conv2")),
        (("conv[1]",), ("conv[1]",)),
        (("*conv*", "fc"), KNOWN),
    ],
)
def test_what_they_mean(names, found):
    assert named(names, KNOWN, "layer") == list(found)


@pytest.mark.parametrize("name", ["conv3", "conv", "x*"])
def test_what_means_nothing(name):
    with pytest.raises(UsageError, match="no layer"):
        named((name,), KNOWN, "layer")
