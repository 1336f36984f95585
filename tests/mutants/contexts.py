"""A plug-in for pytest: which lines each test function runs, and how long it takes.

    REACH=FILE pytest -p contexts ...

A few cases of a function stand for all of them. FILE.cov has the lines by function; FILE.json the
seconds of all its cases, and the functions of which only some were run. Lines that run while a
module is imported are nobody's. Kernels that Numba compiles aren't seen. A function of which a case
fails or is skipped isn't named.
"""

import json
import os
from collections import Counter, defaultdict
from pathlib import Path

import coverage
import pytest

FILE = os.environ["REACH"]

CASES = 3
"""Cases of a function that are run."""

_seconds: Counter[str] = Counter()
_share: dict[str, float] = {}
_failed: set[str] = set()
_cover = coverage.Coverage(
    data_file=f"{FILE}.cov", include=[f"{Path.cwd()}/*"], omit=[f"{Path.cwd()}/tests/*"]
)
_cover.start()


def pytest_collection_modifyitems(config, items):
    functions = defaultdict(list)
    for item in items:
        functions[_function(item.nodeid)].append(item)
    left = []
    for name, cases in functions.items():
        kept = cases[:: -(-len(cases) // CASES)]
        _share[name] = len(kept) / len(cases)
        left += kept
    items[:] = left


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    _cover.switch_context(_function(item.nodeid))
    yield
    _cover.switch_context("")


def pytest_runtest_logreport(report):
    name = _function(report.nodeid)
    _seconds[name] += report.duration / _share[name]
    if not report.passed:
        _failed.add(name)


def pytest_sessionfinish():
    _cover.stop()
    _cover.save()
    passed = {test: seconds for test, seconds in _seconds.items() if test not in _failed}
    sampled = [test for test in passed if _share[test] < 1]
    Path(f"{FILE}.json").write_text(json.dumps({"seconds": passed, "sampled": sampled}))


def _function(nodeid: str) -> str:
    return nodeid.partition("[")[0]
