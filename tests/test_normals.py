"""Normal numbers by counter: Philox as published, Box-Muller as exact as float32 is."""

import numpy as np
import pytest
from scipy import stats

from xbarc.simulator import normals
from xbarc.simulator.draws import Draw


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        # Philox4x32-10 known answers, Random123 (Salmon et al.).
        (0, 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (0xFFFFFFFF, 0xFFFFFFFF, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ],
)
def test_words_are_those_of_philox(counter, key, expected):
    words = np.empty((4, 3), np.uint32)
    counters = np.full((4, 3), counter, np.uint32)
    normals._philox(counters, np.full(2, key, np.uint32), words)
    assert words[:, 1].tolist() == list(expected)


def counted(count, first=0):
    counters = np.zeros((4, count), np.uint32)
    counters[0] = np.arange(first, first + count)
    return counters


def test_numbers_are_those_of_the_words():
    """Box-Muller in float64 from the same words."""
    counters, key = counted(5000), np.array([3, 4], np.uint32)
    words = np.empty((4, 5000), np.uint32)
    normals._philox(counters, key, words)
    found = normals.normals(counters, key)
    for pair in range(2):
        u = ((words[2 * pair] >> 1).astype(np.float64) + 0.5) / 2**31
        angle = np.pi * words[2 * pair + 1].view(np.int32).astype(np.float64) / 2**31
        radius = np.sqrt(-2 * np.log(u))
        np.testing.assert_allclose(found[2 * pair], radius * np.cos(angle), atol=3e-6)
        np.testing.assert_allclose(found[2 * pair + 1], radius * np.sin(angle), atol=3e-6)


def test_numbers_are_normal_and_independent():
    """4 x 2^18 numbers. Each bound is passed by chance less than once in 10^6 runs (5 sigma)."""
    n = 1 << 18
    z = normals.normals(counted(n), np.array([5, 6], np.uint32)).astype(np.float64)
    flat = z.ravel()
    assert abs(flat.mean()) < 5 / np.sqrt(flat.size)
    assert abs((flat**2).mean() - 1) < 5 * np.sqrt(2 / flat.size)
    assert abs((flat**4).mean() - 3) < 5 * np.sqrt(96 / flat.size)
    assert stats.kstest(flat, "norm").pvalue > 1e-6
    for a in range(4):
        for b in range(4):
            later = z[b, 1:] if a == b else z[b, :-1]
            assert abs((z[a, :-1] * later).mean()) < 5 / np.sqrt(n)
            assert a == b or abs((z[a] ** 2 * z[b] ** 2).mean() - 1) < 5 * np.sqrt(8 / n)


def test_a_number_depends_on_its_counter_alone():
    key = np.array([1, 2], np.uint32)
    whole, part = normals.normals(counted(100), key), normals.normals(counted(7, first=40), key)
    np.testing.assert_array_equal(whole[:, 40:47], part)
    assert np.unique(whole).size == whole.size


def test_each_array_has_a_key_of_its_own():
    draws = [
        Draw(seed, effect, layer, replica, tile, crossbar)
        for seed in (0, 1)
        for effect in ("read", "noise")
        for layer in ("a", "b")
        for replica in (0, 1)
        for tile in (0, 1)
        for crossbar in (0, 1)
    ]
    assert len({draw.words().tobytes() for draw in draws}) == len(draws)
    assert draws[0].words().dtype == np.uint32
