"""How long `cluster` looks for tiles: 4096 x 4096 weights, planted blocks and random masks."""

import time

import numpy as np

from xbarc.ir.analysis.cluster_layout import clustered, dense_tiles, occupied_tiles

SIZE, SIDE = 4096, 64
DENSITIES = (0.7, 0.6, 0.5, 0.4, 0.3)
LIMIT_S = 60.0


def planted(rng, noise):
    """Blocks that are 90 % full, noise around them, rows and columns permuted."""
    mask = rng.random((SIZE, SIZE)) < noise
    for begin in range(0, SIZE, SIDE):
        at = slice(begin, begin + SIDE)
        mask[at, at] |= rng.random((SIDE, SIDE)) < 0.9
    return mask[rng.permutation(SIZE)][:, rng.permutation(SIZE)]


def main():
    rng = np.random.default_rng(0)
    masks = {
        "planted": planted(rng, 0.0),
        "planted, 0.1 % noise": planted(rng, 0.001),
        "random, 5 %": rng.random((SIZE, SIZE)) < 0.05,
        "random, 20 %": rng.random((SIZE, SIZE)) < 0.2,
    }
    print(
        f"{'mask':<22}{'dense':>8}{'occupied':>10}{'drop-zeros':>12}{'clustered':>11}{'seconds':>9}"
    )
    for name, mask in masks.items():
        start = time.process_time()
        found = clustered(mask, (SIDE, SIDE), DENSITIES)
        taken = time.process_time() - start
        tile = (SIDE, SIDE)
        print(
            f"{name:<22}{dense_tiles(mask.shape, tile):>8}{occupied_tiles(mask, tile):>10}"
            f"{found.unclustered_tiles:>12}{len(found.layout.tiles):>11}{taken:>9.1f}",
            flush=True,
        )
        assert taken < LIMIT_S


if __name__ == "__main__":
    main()
