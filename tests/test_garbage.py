"""Searches for garbage are rarer inside, and as they were outside."""

import gc
from contextlib import suppress

import pytest

from xbarc.support.garbage import THRESHOLD, rare_collections


@pytest.fixture(autouse=True)
def _as_before():
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_thresholds_are_the_callers_again():
    gc.set_threshold(500, 7, 9)
    with suppress(RuntimeError), rare_collections():
        with rare_collections():
            pass
        assert gc.get_threshold() == (THRESHOLD, 7, 9)
        raise RuntimeError
    assert gc.get_threshold() == (500, 7, 9)


@pytest.mark.parametrize("first", [0, 10 * THRESHOLD])
def test_who_has_fewer_or_none_keeps_that(first):
    gc.set_threshold(first, 10, 10)
    with rare_collections():
        assert gc.get_threshold()[0] == first
