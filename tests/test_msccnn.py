"""MSCCNN's counts on LeNet-5, without data: pooling, then depthwise (biases are not counted)."""

import pytest
from models import text_model
from test_cost import DIFFERENTIAL, LENET

import xbarc

POOLED = "fc-to-1x1{mode=compact}"
SEPARATED = f"{POOLED},depthwise"


def totals(passes):
    report = xbarc.compile(text_model(LENET), "mca128", overrides=DIFFERENTIAL, passes=passes)
    counted = report.cost()["totals"]
    return counted["weights"], counted["memristors"], counted["crossbars"]


@pytest.mark.parametrize(
    ("passes", "weights", "memristors", "crossbars"),
    [
        ("", 61470, 122940, 14),
        (POOLED, 2710, 5420, 4),
        (SEPARATED, 556, 1112, 5),
        (f"{SEPARATED},depthwise-mapping", 556, 1112, 5),
        (f"{SEPARATED},depthwise-mapping{{layout=separate}}", 556, 1112, 9),
        # Exact: the same weights, and as many crossbars.
        ("fc-to-1x1", 61470, 122940, 14),
        # The mean of 16 maps of 5 x 5: 400 equal weights, 5 channels a crossbar.
        (f"{POOLED},pool-on-crossbar", 2710 + 400, 2 * 3110, 4 + 4),
    ],
)
def test_lenet(passes, weights, memristors, crossbars):
    assert totals(passes) == (weights, memristors, crossbars)


def test_conv2_alone():
    program = xbarc.compile(text_model(LENET), "mca128", overrides=DIFFERENTIAL, passes=SEPARATED)
    rows = {row["name"]: row for row in program.cost()["layers"]}
    assert rows["Conv_1.depthwise"]["weights"] + rows["Conv_1.pointwise"]["weights"] == 246
    assert rows["Conv_1.depthwise"]["crossbars"] == 2
    assert rows["Conv"]["weights"] == 150  # the stem is kept
    assert set(program.cost()["deviation"]) == {"fc-to-1x1", "depthwise"}
