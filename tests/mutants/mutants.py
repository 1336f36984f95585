"""Do tests notice a wrong sign? `make mutants` changes one operator at a time and runs them.

    python tests/mutants/mutants.py                      # what differs from main
    python tests/mutants/mutants.py --all --count 200    # a sample of all that counts and computes
    python tests/mutants/mutants.py --only FILE:LINE     # the changes of a line

First each test's lines are found (`contexts`), which takes as long as two runs of the suite; they
are kept in `build/mutants` until `--fresh`. Then each change meets the tests that reach its line.
What lives is printed, unless `equivalent.toml` says why it changes nothing. Ends with 1 where the
tests kill less than nine in ten.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from random import Random

sys.path[:0] = [str(Path(__file__).parent)]

import equivalent  # noqa: E402  beside this file
import tree  # noqa: E402
from changes import Change, changes_of  # noqa: E402
from judge import Judge, Verdict  # noqa: E402
from reach import Reach, load  # noqa: E402

AREAS = {
    "hw": ("xbarc/hw",),
    "simulator": ("xbarc/simulator",),
    "cost": ("xbarc/cost",),
    "lowering": ("xbarc/lowering",),
    "quantisation": (
        "xbarc/driver/quantization.py",
        "xbarc/driver/refit.py",
        "xbarc/graph/ranges.py",
    ),
    "ir/analysis": ("xbarc/ir/analysis",),
    "passes": ("passes",),
}
"""What counts, computes or maps."""

WANTED = 0.9
BUILD = tree.ROOT / "build" / "mutants"


def main() -> int:
    options = _options()
    if options.fresh or not list(BUILD.glob("found*.cov")):
        collect(options.jobs)
    reach = load(tree.ROOT, BUILD, _copy(0))
    changes = _chosen(options)
    known = equivalent.load()
    same = [c for c in changes if known.why(c)]
    changes = [c for c in changes if not known.why(c)]
    print(f"{len(changes)} changes, {len(same)} known to change nothing", flush=True)
    verdicts = judge_all(changes, reach, options.jobs)
    return report(verdicts, len(same))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--since", default="main", help="what git's changes are counted from")
    parser.add_argument("--all", action="store_true", help="not what git says: all of the areas")
    parser.add_argument("--only", metavar="FILE:LINE", action="append", default=[])
    parser.add_argument("--count", type=int, default=200, help="changes, at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--fresh", action="store_true", help="find each test's lines anew")
    return parser.parse_args()


def collect(jobs: int) -> None:
    """Run the tests once, each file by one of `jobs` processes, to see which lines they reach."""
    copy = tree.make(_copy(0))
    files = sorted(path.relative_to(copy) for path in (copy / "tests").glob("test_*.py"))
    kernels = BUILD / "kernels"
    texts = {
        file: (copy / file).read_text() for places in AREAS.values() for file in _files(places)
    }
    (BUILD / "sources.json").write_text(json.dumps(texts))
    for old in BUILD.glob("found*"):
        old.unlink()
    running = []
    for i in range(jobs):
        environment = tree.environment(copy, kernels)
        environment["PYTHONPATH"] += f":{copy / 'tests' / 'mutants'}"
        environment["REACH"] = str(BUILD / f"found{i}")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "contexts", "-p", "no:xdist"]
        command += ["-p", "no:cacheprovider", *map(str, files[i::jobs])]
        running.append(subprocess.Popen(command, cwd=copy, env=environment))
    for process in running:
        process.wait()


def _copy(index: int) -> Path:
    """A copy of the tree; compiled kernels are known by where it stands."""
    return BUILD / f"reach{index or ''}"


def _chosen(options: argparse.Namespace) -> list[Change]:
    """The changes that are tried: a sample, as many of each area where there are enough."""
    if options.only:
        wanted = [tuple(one.rsplit(":", 1)) for one in options.only]
        return [c for f, n in wanted for c in changes_of(tree.ROOT, f) if c.line == int(n)]
    lines = None if options.all else _touched(options.since)
    by_area: dict[str, list[Change]] = {}
    random = Random(options.seed)
    for area, places in AREAS.items():
        found = [
            change
            for file in _files(places)
            for change in changes_of(tree.ROOT, file)
            if lines is None or change.line in lines.get(file, ())
        ]
        random.shuffle(found)
        by_area[area] = found
    chosen: list[Change] = []
    while len(chosen) < options.count and any(by_area.values()):
        for found in by_area.values():
            if found and len(chosen) < options.count:
                chosen.append(found.pop())
    return chosen


def _files(places: tuple[str, ...]) -> list[str]:
    paths = [tree.ROOT / place for place in places]
    files = [f for p in paths for f in (sorted(p.rglob("*.py")) if p.is_dir() else [p])]
    return [file.relative_to(tree.ROOT).as_posix() for file in files]


def _touched(since: str) -> dict[str, set[int]]:
    """The lines by file that differ from where this branch left `since`."""
    base = subprocess.run(
        ["git", "merge-base", since, "HEAD"], cwd=tree.ROOT, capture_output=True, text=True
    )
    command = ["git", "diff", "-U0", base.stdout.strip() or since]
    text = subprocess.run(command, cwd=tree.ROOT, capture_output=True, text=True, check=True)
    lines: dict[str, set[int]] = defaultdict(set)
    file = ""
    for line in text.stdout.splitlines():
        if line.startswith("+++ b/"):
            file = line[6:]
        elif match := re.match(r"@@ .* \+(\d+)(?:,(\d+))? @@", line):
            first, count = int(match[1]), int(match[2] or 1)
            lines[file] |= set(range(first, first + count))
    return lines


def judge_all(changes: list[Change], reach: Reach, jobs: int) -> list[Verdict]:
    """The verdicts; those of survivors are printed as they come."""
    judges: SimpleQueue[Judge] = SimpleQueue()
    made = [Judge(_copy(i), BUILD / "kernels") for i in range(min(jobs, len(changes)))]
    for judge in made:
        judges.put(judge)

    def one(change: Change) -> Verdict:
        judge = judges.get()
        try:
            tests = reach.tests_of(change.file, change.line)
            verdict = judge.try_change(change, tests, dict(reach.seconds))
        finally:
            judges.put(judge)
        mark = "  " if verdict.end in ("killed", "timeout") else "! "
        print(f"{mark}{verdict.end} {verdict.seconds:.0f} s {change} {verdict.by}", flush=True)
        return verdict

    with ThreadPoolExecutor(max(1, len(made))) as pool:
        verdicts = list(pool.map(one, changes))
    if made:
        _check_killers(made[0], verdicts, reach)
    for judge in made:
        judge.close()
    return verdicts


def _check_killers(judge: Judge, verdicts: list[Verdict], reach: Reach) -> None:
    """A test that fails without a change kills nothing."""
    killers = sorted({v.by for v in verdicts if v.by in reach.seconds})
    limit = 60 + 10 * sum(reach.seconds[test] for test in killers)
    if killers and not judge.passes(killers, limit):
        sys.exit("a test that killed a change fails without one too: run the tests first")


def report(verdicts: list[Verdict], same: int) -> int:
    """Print what lived, and a table by area; the exit code."""
    ends: dict[str, Counter[str]] = defaultdict(Counter)
    for verdict in verdicts:
        area = next(a for a, ps in AREAS.items() if verdict.change.file.startswith(ps))
        ends[area][verdict.end] += 1
        ends["all"][verdict.end] += 1
    print(f"\n{'':<14}{'tried':>7}{'killed':>8}{'lived':>7}{'rate':>7}")
    for area in (*AREAS, "all"):
        found = ends[area]
        killed, tried = found["killed"] + found["timeout"], found.total()
        if tried:
            print(f"{area:<14}{tried:>7}{killed:>8}{tried - killed:>7}{killed / tried:>7.0%}")
    found = ends["all"]
    killed = found["killed"] + found["timeout"]
    return int(killed < WANTED * found.total())


if __name__ == "__main__":
    os.chdir(tree.ROOT)
    sys.exit(main())
