"""The yardsticks of docs/validation.md: how far the model is from published and measured chips."""

import importlib
from pathlib import Path
from statistics import mean

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def validate():
    """benchmarks/validate.py, with its yardsticks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        yield importlib.import_module("validate")


@pytest.mark.parametrize("yardstick", ["isaac", "puma", "neurram", "neurosim", "mnsim"])
def test_the_page_says_what_the_model_gives(validate, yardstick):
    """Run `python benchmarks/validate.py` where a figure has changed, and look at what it says."""
    rows = getattr(validate, yardstick)()
    print(validate.table(rows), validate.summary(rows))
    assert validate.table(rows) in (ROOT / "docs" / "validation.md").read_text()
    for row in rows:
        if row.how in ("reproduced", "taken"):
            assert abs(row.error) < 0.01, row


def test_neurram_is_near_what_was_measured(validate):
    rows = validate.neurram()
    errors = [abs(row.error) for row in rows if row.how == "predicted"]
    # Eight rows of ten with throughput and efficiency; groups of the six in two phases, and of the
    # other two the word lines.
    assert len(errors) == 2 * 8 + 3 * 6 + 2
    assert mean(errors) < 0.10
    assert max(errors) < 0.25


def test_at_most_two_measured_rows_are_fitted(validate):
    fitted = {row.what.partition(":")[0] for row in validate.neurram() if row.how == "fitted"}
    assert len(fitted) == 2


def test_neurosim_s_floor_plan(validate):
    arrays, _, cells, adc, *_ = validate.neurosim()
    assert arrays.found == 4048
    assert cells.error == pytest.approx(0, abs=1e-3)
    assert abs(adc.error) < 0.25


def test_conversions_take_the_time_that_neurosim_has(validate):
    """One clock each; NeuroSim counts windows without padding, and shares one vector of 8."""
    rows = {row.what: row for row in validate.neurosim()}
    assert abs(rows["time of conversions, layer 1"].error - (32 / 30) ** 2 + 1) < 1e-3
    last = 7 / 8 * 64 * 2.05141e-3
    times = [row for row in validate.neurosim() if "NeuroSim's windows" in row.what]
    assert times[-1].found - last == pytest.approx(times[-1].published, rel=1e-4)


def test_a_vector_on_mnsim(validate):
    rows = {row.what: row for row in validate.mnsim()}
    assert rows["last layer: conversions"].error == pytest.approx(0, abs=1e-5)
    # It reads the array once for the two columns that share a converter.
    assert rows["last layer: reads"].error == pytest.approx(-0.5, abs=1e-3)
