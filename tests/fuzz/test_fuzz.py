"""Hostile inputs end in a line and exit code 1 or 2: some new ones, and all that once failed.

`make fuzz MINUTES=60` tries more of them (`fuzz.py`).
"""

from random import Random

import pytest
from cases import CORPUS, Case, Workplace, faults, kinds
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

EACH = 4
"""Examples of a kind."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    made = Workplace(tmp_path_factory.mktemp("fuzz"))
    yield made
    made.server.close()


@pytest.mark.parametrize("kind", kinds())
@settings(
    max_examples=EACH,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(seed=st.integers(0, 1 << 40))
def test_a_mutated_input(place, kind, seed):
    case = place.draw(kind, Random(seed))
    assert faults(place.run(case)) == [], f"kept as {case.save()}"


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*-*")), ids=lambda path: path.name)
def test_an_input_that_once_failed(place, path):
    case = Case.load(path)
    if case.kind not in kinds():
        pytest.skip(f"nothing here reads {case.kind}")
    assert faults(place.run(case)) == []


def test_every_kind_has_a_good_input(place):
    """Unmutated inputs do their work; else mutated ones would all end at the first check."""
    for kind, name in (
        ("onnx", "m.onnx"),
        ("npz", "x.npz"),
        ("toml", "t.toml"),
        ("relay", "r.relay"),
        ("params", "p.params"),
        ("mlir", "p.mlir"),
        ("mlir", "l.mlir"),
        ("program", "m.xbar/program.mlir"),
    ):
        content = (place.good / name).read_bytes()
        end = place.run(Case(kind, name, content, 1))
        assert end.code == 0, (kind, end.err)
