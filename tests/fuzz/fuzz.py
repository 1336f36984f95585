"""Hostile inputs for as long as one likes: `make fuzz MINUTES=60`.

    python tests/fuzz/fuzz.py MINUTES [SEED] [KIND...]

Prints counts by kind and exit code. What fails is kept in `corpus/`, where `make test` tries it
again. Ends with 1 where anything failed.
"""

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from cases import Workplace, faults, kinds  # noqa: E402  beside this file


def main() -> int:
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 1_000_000
    chosen = sys.argv[3:] or kinds()
    counts: dict[str, Counter] = {kind: Counter() for kind in chosen}
    most, failed, number = 0.0, 0, 0
    seen: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        place = Workplace(Path(folder))
        end_at = time.monotonic() + 60 * minutes
        print(f"seed {seed}", flush=True)
        while time.monotonic() < end_at:
            kind = chosen[number % len(chosen)]
            case = place.draw(kind, Random(f"{seed}/{number}"))
            end = place.run(case)
            counts[kind][end.code] += 1
            most = max(most, end.megabytes)
            number += 1
            wrong = faults(end)
            last = end.err.strip().rpartition("\n")[2]
            signature = f"{kind} {wrong} {last.split(': please')[0]}"
            if wrong:
                failed += 1
            if wrong and signature not in seen:
                seen.add(signature)
                print(f"{kind} #{number - 1}: {'; '.join(wrong)}: {last[:250]}", flush=True)
                print(f"  kept as {case.save().name}", flush=True)
        place.server.close()
    print(f"\n{number} inputs, {failed} failed, at most {most:.0f} MB")
    print(f"{'kind':<10}" + "".join(f"{code!s:>8}" for code in (0, 1, 2, "other")))
    for kind, found in counts.items():
        other = sum(count for code, count in found.items() if code not in (0, 1, 2))
        figures = (found[0], found[1], found[2], other)
        print(f"{kind:<10}" + "".join(f"{count:>8}" for count in figures))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
