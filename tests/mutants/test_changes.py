"""What is changed, and which tests meet a change."""

import ast
from pathlib import Path

import equivalent
import pytest
from changes import changes_of
from judge import _parts
from reach import Reach, _moved

SOURCE = '''"""Text with 1 number."""
import math
from dataclasses import dataclass

__all__ = ["f" + "g"]
LIMIT: "int | None" = 3


@dataclass(frozen=True)
class C:
    x: int = 0


def f(a, b):
    if not (a <  # a < b in a comment
            b) and a not in (b, -b):
        raise ValueError("a" * 2 + f"{a + 1}")
    a += 2 * b // 1.5
    return max(a, b) if a is None else math.floor(f"{a * b}" + "x") - True


@njit(nogil=True)
def kernel(a):
    return inner(a)


@njit
def inner(a):
    return a << 1


def caller(a):
    return kernel(a)


def alike(a, b):
    return a.reshape(2, -1), zip(a, b, strict=True)
    assert a + 1 > b
'''


@pytest.fixture
def root(tmp_path):
    (tmp_path / "m.py").write_text(SOURCE)
    return tmp_path


def test_each_operator_constant_and_name_in_turn(root):
    found = [(c.line, c.old, c.new) for c in changes_of(root, "m.py")]
    assert found == [
        (6, "3", "4"),
        (11, "0", "1"),
        (15, "not", ""),
        (15, "<", "<="),
        (16, "and", "or"),
        (16, "not in", "in"),
        (16, "-", ""),
        (18, "+=", "-="),
        (18, "2", "3"),
        (18, "*", "//"),
        (18, "//", "*"),
        (18, "1.5", "2.5"),
        (19, "max", "min"),
        (19, "is", "is not"),
        (19, "floor", "ceil"),
        (19, "-", "+"),
        (19, "True", "False"),
        (29, "<<", ">>"),
        (29, "1", "2"),
        (37, "2", "3"),
        (37, "-", ""),
    ]


def test_a_changed_file_is_python_and_differs_in_one_place(root):
    source = SOURCE.encode()
    for change in changes_of(root, "m.py"):
        changed = change.apply(source)
        ast.parse(changed)
        assert changed[: change.start] == source[: change.start]
        assert changed[change.start + len(change.new) :] == source[change.end :]


def test_what_reaches_a_line(root):
    """By its own run, by another line of its statement, by the name of a kernel, by the module."""
    seconds = {"tests/test_m.py::own": 9.0, "tests/test_a.py::slow": 2.0, "tests/test_b.py::q": 1.0}
    own, slow, quick = seconds
    lines = {"m.py": {15: frozenset([slow, own]), 18: frozenset([quick]), 33: frozenset([slow])}}
    lines["m.py"][6] = frozenset([quick])  # that imported it first
    reach = Reach(root, lines, seconds)
    assert reach.tests_of("m.py", 18) == [quick]
    assert reach.tests_of("m.py", 16) == [own, slow]  # the head of the `if`
    assert reach.tests_of("m.py", 29) == [slow]  # inner, by kernel, by caller
    assert reach.tests_of("m.py", 19) == [own, quick, slow]  # f: a case may that wasn't measured
    assert reach.tests_of("m.py", 6) == [own, quick, slow]  # LIMIT: nobody reads it


def test_a_test_that_names_a_kernel_reaches_its_lines(root):
    (root / "tests").mkdir()
    (root / "tests" / "test_k.py").write_text("def one():\n    m.inner(2)\ndef two():\n    m.f()")
    seconds = {"tests/test_k.py::one": 1.0, "tests/test_k.py::two": 1.0}
    assert Reach(root, {"m.py": {}}, seconds).tests_of("m.py", 29) == ["tests/test_k.py::one"]


def test_what_may_reach_a_line_by_a_case_that_was_not_measured(root):
    seconds = {f"tests/test_{name}": 1.0 for name in ("a.py::x", "a.py::y", "a.py::z", "b.py::x")}
    x, y, _, other = seconds
    reach = Reach(root, {"m.py": {18: frozenset([x])}}, seconds, frozenset([y, other]))
    assert reach.tests_of("m.py", 18) == [x, y]


def test_a_long_test_leaves_time_for_the_next():
    seconds = {"quick": 1.0, "next": 39.5, "long": 500.0, "other": 100.0, "more": 150.0}
    assert _parts(list(seconds), seconds) == [["quick"], ["next", "other"]]
    assert _parts(["long", "quick"], seconds) == [["long"]]


def test_lines_that_moved_since():
    lines = {1: frozenset("a"), 2: frozenset("b"), 3: frozenset("c")}
    moved = _moved(lines, ["one", "two", "three"], ["new", "one", "more", "two", "three"])
    assert moved == {2: {"a"}, 3: {"a"}, 4: {"b"}, 5: {"c"}}
    assert _moved(lines, ["one", "two", "three"], ["one", "three"]) == {1: {"a"}, 2: {"c"}}


def test_what_is_listed_as_equivalent_is_there():
    """Each entry is a change that could be made today, with a reason."""
    root = Path(__file__).parents[2]
    for (file, text, becomes), why in equivalent.load().reasons.items():
        made = {(c.text, f"{c.old} -> {c.new}") for c in changes_of(root, file)}
        assert (text, becomes) in made
        assert len(why) > 20
