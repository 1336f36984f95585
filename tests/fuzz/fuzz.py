"""Hostile inputs for as long as one likes: `make fuzz MINUTES=60`.

    python tests/fuzz/fuzz.py MINUTES [SEED] [KIND...]

Prints counts by kind and exit code, every ten minutes and at the end, which SIGTERM brings about.
What fails is kept in `corpus/`, where `make test` tries it again. Ends with 1 where one failed.
"""

import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from cases import Case, Workplace, faults, kinds  # noqa: E402  beside this file
from server import End  # noqa: E402

BETWEEN = 600
"""Seconds from one table to the next."""


@dataclass
class Counts:
    """What was tried, and how it ended."""

    codes: dict[str, Counter]
    start: float = field(default_factory=time.monotonic)
    inputs: int = 0
    failed: int = 0
    megabytes: float = 0.0
    seconds: float = 0.0
    seen: set[str] = field(default_factory=set)

    def add(self, case: Case, number: int, end: End) -> None:
        """Count an end; keep and print the first of those that fail alike."""
        self.codes[case.kind][end.code] += 1
        self.megabytes = max(self.megabytes, end.megabytes)
        self.seconds = max(self.seconds, end.seconds)
        self.inputs += 1
        wrong = faults(end)
        if not wrong:
            return
        self.failed += 1
        last = end.err.strip().rpartition("\n")[2]
        signature = f"{case.kind} {wrong} {last.split(': please')[0]}"
        if signature not in self.seen:
            self.seen.add(signature)
            print(f"{case.kind} #{number}: {'; '.join(wrong)[:250]}: {last[:250]}")
            print(f"  kept as {case.save().name}", flush=True)

    def table(self) -> str:
        """Counts by kind and exit code."""
        rate = self.inputs / (time.monotonic() - self.start)
        lines = [
            f"\n{self.inputs} inputs, {self.failed} failed, {rate:.1f} a second; "
            f"at most {self.megabytes:.0f} MB and {self.seconds:.1f} s",
            f"{'kind':<10}" + "".join(f"{code!s:>8}" for code in (0, 1, 2, "other")),
        ]
        for kind, found in self.codes.items():
            other = sum(count for code, count in found.items() if code not in (0, 1, 2))
            figures = (found[0], found[1], found[2], other)
            lines.append(f"{kind:<10}" + "".join(f"{count:>8}" for count in figures))
        return "\n".join(lines)


def main() -> int:
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 1_000_000
    chosen = sys.argv[3:] or kinds()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as folder:
        place = Workplace(Path(folder))
        counts = Counts({kind: Counter() for kind in chosen})
        end_at, table_at = counts.start + 60 * minutes, counts.start + BETWEEN
        print(f"seed {seed}", flush=True)
        try:
            while (now := time.monotonic()) < end_at:
                number = counts.inputs
                case = place.draw(chosen[number % len(chosen)], Random(f"{seed}/{number}"))
                counts.add(case, number, place.run(case))
                if now > table_at:
                    table_at += BETWEEN
                    print(counts.table(), flush=True)
        finally:
            print(counts.table(), flush=True)
            place.server.close()
    return int(counts.failed > 0)


if __name__ == "__main__":
    sys.exit(main())
