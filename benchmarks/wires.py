"""Milliseconds to solve an array with wire resistance, beside this machine's sgemm rate.

    python benchmarks/wires.py [--rounds 5]

Arrays of 0.1 to 10 uS, segments of 1 ohm, drivers at the left, converters at the bottom. Each
figure is the best of the rounds, on one core; `lost` is what the worst cell loses of its current.
The last line solves several arrays side by side, on one thread and on all cores.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from xbarc.hw.wires import Wires, transfer, transfers
from xbarc.support.threads import one_blas_thread, thread_count

SIZES = (32, 64, 128, 256)
SIDE_BY_SIDE = 16


def best(rounds: int, run: Callable[[], object]) -> float:
    """Seconds of the fastest of the rounds."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return min(taken)


def cells(size: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.1, 10, (size, size))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    wires, a = Wires(), np.ones((1024, 1024), np.float32)
    with one_blas_thread():
        seconds = best(rounds, lambda: a @ a)
    print(f"sgemm, one core: {2 * 1024**3 / seconds * 1e-9:.0f} GFLOP/s")
    for size in SIZES:
        g = cells(size)
        seconds = best(rounds, lambda g=g: transfer(g, wires))
        lost = 1 - (transfer(g, wires).T / g).min()
        print(f"{size:>3} x {size:<3}  {1e3 * seconds:8.1f} ms  lost {100 * lost:4.1f} %")
    arrays, cores = [cells(128)] * SIDE_BY_SIDE, thread_count()
    one, all_ = (best(2, lambda n=n: transfers(arrays, wires, n)) for n in (1, cores))
    print(f"{SIDE_BY_SIDE} of 128 x 128: {one:.2f} s on one thread, {all_:.2f} s on {cores}")


if __name__ == "__main__":
    main()
