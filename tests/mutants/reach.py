"""Which tests reach a line, and in which order they are worth trying.

A kernel's lines aren't seen by coverage: Numba compiles them. They are reached by what reaches a
line that names the kernel, in Python or, in turn, in another kernel, and by tests that name it. A
line that runs on import is reached by whatever reaches its module, or names what it defines.
"""

import ast
import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path

import coverage


@dataclass(frozen=True)
class Reach:
    """`lines` has the tests of each line by file; `seconds` how long each takes.

    Of the tests in `sampled` only some cases were measured.
    """

    root: Path
    lines: Mapping[str, Mapping[int, frozenset[str]]]
    seconds: Mapping[str, float]
    sampled: frozenset[str] = frozenset()

    def tests_of(self, file: str, line: int) -> list[str]:
        """The tests that reach a line: of its module's own file first, then who runs the module.

        Behind them come those that may: a case that wasn't measured, of a file that has others.
        """
        # A line outside of functions ran for whoever imported its module first.
        inside = bool(_python_functions(self.root / file, line))
        found = (inside and self._at(file, line)) or self._by_name(file, line)
        files = {_file(test) for test in found}
        near = {test for test in self.sampled - found if _file(test) in files}
        return [test for some in (found, near) for test in sorted(some, key=self._order(file))]

    def _order(self, file: str) -> Callable[[str], tuple[bool, bool, float, str]]:
        here = frozenset().union(*self.lines.get(file, {}).values())
        return lambda test: (not _own(test, file), test not in here, self.seconds[test], test)

    def _at(self, file: str, line: int) -> frozenset[str]:
        """The tests that run the line, or another of its statement: one may stand on several."""
        lines = self.lines.get(file, {})
        near = _statement(self.root / file, line)
        return lines.get(line) or frozenset().union(*(lines.get(n, ()) for n in near))

    def _by_name(self, file: str, line: int) -> frozenset[str]:
        """The tests of a line that coverage can't see: a kernel's, or one that runs on import."""
        for lines in _python_functions(self.root / file, line):
            # A case that wasn't measured may run it: all cases of its function's tests are tried.
            found = frozenset().union(*(self.lines.get(file, {}).get(n, ()) for n in lines))
            if found:
                return found
        name = _defined_at(self.root / file, line)
        named = self._naming(name) if name else frozenset()
        return named or frozenset().union(*self.lines.get(file, {}).values())

    def _naming(self, name: str) -> frozenset[str]:
        """The tests that run a line which names it, or a kernel that does, and so on."""
        found: set[str] = set()
        seen, waiting = {name}, [name]
        while waiting:
            name = waiting.pop()
            found |= {test for test in self.seconds if name in _named_by(self.root, test)}
            for file, line in _mentions(self.root, tuple(self.lines)).get(name, ()):
                found |= self.lines[file].get(line, frozenset())
                outer = _defined_at(self.root / file, line)
                python = _python_functions(self.root / file, line)
                if outer and outer not in seen and not python:
                    seen.add(outer)
                    waiting.append(outer)
        return frozenset(found)


def load(root: Path, folder: Path, measured_in: Path) -> Reach:
    """What `contexts` wrote in `folder` (found*.cov and .json) of a copy of the tree at `root`.

    Files may have changed since: sources.json has them as they were. A new line is reached by what
    reached the line before it.
    """
    sources = json.loads((folder / "sources.json").read_text())
    seconds: dict[str, float] = {}
    sampled: set[str] = set()
    lines: dict[str, dict[int, frozenset[str]]] = defaultdict(dict)
    for path in sorted(folder.glob("found*.json")):
        some = json.loads(path.read_text())
        seconds |= some["seconds"]
        sampled |= set(some["sampled"])
        data = coverage.CoverageData(str(path.with_suffix(".cov")))
        data.read()
        for measured in data.measured_files():
            file = _named(Path(measured).relative_to(measured_in.resolve()).as_posix())
            if not (root / file).exists():
                continue  # it's gone since
            for line, tests in data.contexts_by_lineno(measured).items():
                known = lines[file].get(line, frozenset())
                lines[file][line] = known | some["seconds"].keys() & set(tests)
    now = {file: (root / file).read_text().split("\n") for file in lines}
    moved = {f: _moved(ls, sources.get(f, "").split("\n"), now[f]) for f, ls in lines.items()}
    return Reach(root, moved, seconds, frozenset(sampled))


def _moved(
    lines: Mapping[int, frozenset[str]], was: list[str], now: list[str]
) -> dict[int, frozenset[str]]:
    """The tests by line of what a file is now."""
    if was == now:
        return {line: tests for line, tests in lines.items() if tests}
    found: dict[int, frozenset[str]] = {}
    for mark, i, _, j, end in SequenceMatcher(None, was, now, autojunk=False).get_opcodes():
        for line in range(j + 1, end + 1):
            before = found.get(line - 1, frozenset())
            found[line] = lines.get(i + line - j, frozenset()) if mark == "equal" else before
    return {line: tests for line, tests in found.items() if tests}


def _named(file: str) -> str:
    """`passes/` and `targets/` are linked into the package."""
    for name in ("passes", "targets"):
        if file.startswith(f"xbarc/{name}/"):
            return file.removeprefix("xbarc/")
    return file


def _own(test: str, file: str) -> bool:
    return Path(file).stem.strip("_") in _file(test)


def _file(test: str) -> str:
    return test.partition("::")[0]


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


@cache
def _mentions(root: Path, files: tuple[str, ...]) -> dict[str, list[tuple[str, int]]]:
    """Files and lines by the names and attributes that are read there."""
    found: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for file in files:
        for node in ast.walk(_tree(root / file)):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                found[node.id].append((file, node.lineno))
            elif isinstance(node, ast.Attribute):
                found[node.attr].append((file, node.lineno))
    return found


@cache
def _named_by(root: Path, test: str) -> frozenset[str]:
    """The names and attributes in a test function."""
    file, _, name = test.partition("::")
    nodes = ast.walk(_tree(root / file)) if (root / file).exists() else ()
    found = [n for n in nodes if isinstance(n, ast.FunctionDef) and n.name == name]
    inside = (n for function in found for n in ast.walk(function))
    return frozenset(getattr(n, "id", getattr(n, "attr", "")) for n in inside)


def _python_functions(path: Path, line: int) -> list[range]:
    """The lines of the functions around a line that aren't kernels, the innermost first."""
    around = [lines for lines in _bodies(path) if line in lines]
    return sorted(around, key=len)


@cache
def _bodies(path: Path) -> list[range]:
    """The lines of the bodies of functions in which coverage sees what runs."""
    kernels = [n for n in ast.walk(_tree(path)) if isinstance(n, ast.FunctionDef) and _is_kernel(n)]
    inside = {id(inner) for kernel in kernels for inner in ast.walk(kernel)}
    return [
        range(node.body[0].lineno, (node.end_lineno or 0) + 1)
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.FunctionDef) and id(node) not in inside
    ]


def _is_kernel(node: ast.FunctionDef) -> bool:
    return any("njit" in ast.dump(decorator) for decorator in node.decorator_list)


@cache
def _statement(path: Path, line: int) -> range:
    """The lines of the smallest statement around a line; of an `if` or `for`, those of its head."""
    found = range(0)
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0):
            body = getattr(node, "body", None)
            end = body[0].lineno if body else (node.end_lineno or 0) + 1
            here = range(node.lineno, max(end, node.lineno + 1))
            if line in here and (not found or len(here) <= len(found)):
                found = here
    return found


@cache
def _defined_at(path: Path, line: int) -> str | None:
    """What the statement at the top of the file defines to which the line belongs."""
    for node in _tree(path).body:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        if first <= line <= (node.end_lineno or 0):
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            return getattr(node, "name", None) or getattr(targets[0], "id", None)
    return None
