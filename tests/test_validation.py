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
