"""Changes of one operator, constant or name in Python source: what a test must notice.

Left alone is what no test should hold: texts, annotations, what an error says (`raise`), `assert`,
options of `dataclass` and `njit`, `strict` of `zip`, and `__all__`. So is the 1 of `reshape(-1)`:
numpy reads any number below 0 alike. The insides of f-strings are left alone too: Python 3.11
doesn't say where they stand.
"""

import ast
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COMPARISONS = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==",
    "in": "not in", "not in": "in", "is": "is not", "is not": "is",
}  # fmt: skip
ARITHMETIC = {
    "+": "-", "-": "+", "*": "//", "//": "*", "/": "*", "%": "//", "**": "*",
    "<<": ">>", ">>": "<<", "|": "&", "&": "|", "^": "&",
}  # fmt: skip
NAMES = {
    "min": "max", "max": "min", "any": "all", "all": "any", "minimum": "maximum",
    "maximum": "minimum", "floor": "ceil", "ceil": "floor", "argmin": "argmax", "argmax": "argmin",
}  # fmt: skip


@dataclass(frozen=True)
class Change:
    """Bytes `start` to `end` of a file become `new`; `line` counts from 1, `text` is that line."""

    file: str
    line: int
    start: int
    end: int
    old: str
    new: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.old} -> {self.new}: {self.text}"

    def apply(self, source: bytes) -> bytes:
        """The changed file."""
        assert source[self.start : self.end].decode() == self.old
        return source[: self.start] + self.new.encode() + source[self.end :]


def changes_of(root: Path, file: str) -> list[Change]:
    """All changes of a file, in order; `file` is its path below `root`."""
    source = (root / file).read_bytes()
    return sorted(_Finder(file, source).found, key=lambda change: (change.start, change.new))


class _Finder:
    def __init__(self, file: str, source: bytes) -> None:
        self.file, self.source = file, source
        self.lines = source.decode().split("\n")
        self.starts = [0]
        for line in source.split(b"\n"):
            self.starts.append(self.starts[-1] + len(line) + 1)
        self.found: list[Change] = []
        self.alike: set[ast.AST] = set()
        self._visit(ast.parse(source))

    def _visit(self, node: ast.AST) -> None:
        if (
            isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr)
            or _is_all(node)
            or _declares(node)
        ):
            return
        if node in self.alike or (isinstance(node, ast.keyword) and node.arg == "strict"):
            return
        if _called(node) == "reshape":
            self.alike |= {n.operand for n in ast.walk(node) if _is_minus_one(n)}
        for start, end, new in self._here(node):
            old = self.source[start:end].decode()
            line = self.source.count(b"\n", 0, start) + 1
            text = self.lines[line - 1].strip()
            self.found.append(Change(self.file, line, start, end, old, new, text))
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "type_comment"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    self._visit(child)

    def _here(self, node: ast.AST) -> Iterator[tuple[int, int, str]]:
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            for left, right in itertools.pairwise(sides):
                yield from self._between(left, right, COMPARISONS)
        elif isinstance(node, ast.BinOp) and not _text(node.left) and not _text(node.right):
            yield from self._between(node.left, node.right, ARITHMETIC)
        elif isinstance(node, ast.AugAssign):
            signs = {f"{old}=": f"{new}=" for old, new in ARITHMETIC.items()}
            yield from self._between(node.target, node.value, signs)
        elif isinstance(node, ast.BoolOp):
            other = {"and": "or", "or": "and"}
            for left, right in itertools.pairwise(node.values):
                yield from self._between(left, right, other)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
            start = self._start(node)
            yield start, start + (3 if isinstance(node.op, ast.Not) else 1), ""
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, bool):
                yield self._start(node), self._end(node), str(not node.value)
            elif isinstance(node.value, int | float):
                yield self._start(node), self._end(node), repr(node.value + 1)
        elif isinstance(node, ast.Call):
            word = _called(node)
            if word in NAMES:
                end = self._end(node.func)
                yield end - len(word), end, NAMES[word]

    def _between(self, left: ast.AST, right: ast.AST, signs) -> Iterator[tuple[int, int, str]]:
        start, end = self._end(left), self._start(right)
        gap = self.source[start:end]
        for line in (gap_lines := gap.split(b"\n")):
            if b"#" in line:  # a comment's words aren't operators
                gap_lines[gap_lines.index(line)] = line.split(b"#")[0].ljust(len(line))
        gap = b"\n".join(gap_lines)
        for sign in sorted(signs, key=len, reverse=True):
            at = gap.find(sign.encode())
            if at >= 0:
                yield start + at, start + at + len(sign), signs[sign]
                return

    def _start(self, node: ast.AST) -> int:
        return self.starts[node.lineno - 1] + node.col_offset

    def _end(self, node: ast.AST) -> int:
        return self.starts[node.end_lineno - 1] + node.end_col_offset


def _text(node: ast.AST) -> bool:
    """Whether an operand shows that no number is meant: a change would only be a TypeError."""
    if isinstance(node, ast.BinOp):
        return _text(node.left) or _text(node.right)
    plain = isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    return plain or isinstance(node, ast.JoinedStr | ast.List | ast.Tuple | ast.ListComp)


def _declares(node: ast.AST) -> bool:
    """`dataclass(frozen=True)`, `njit(nogil=True)`: how fast or how strict, not what."""
    return _called(node) in ("dataclass", "njit")


def _called(node: ast.AST) -> str:
    """The name of what a call calls."""
    name = getattr(node, "func", None)
    return getattr(name, "id", getattr(name, "attr", ""))


def _is_minus_one(node: ast.AST) -> bool:
    minus = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
    return minus and isinstance(node.operand, ast.Constant) and node.operand.value == 1


def _is_all(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
