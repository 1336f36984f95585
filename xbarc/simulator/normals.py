"""Normal random numbers that a counter gives, many at a time.

Philox4x32-10 (Salmon et al., SC 2011) makes four 32-bit words of a counter and a key, and the
Box-Muller transform makes four normal numbers of these. It is worked out in float32 by additions,
multiplications, divisions and square roots alone, which IEEE 754 rounds alike everywhere: so the
bits don't depend on a machine's mathematical library. No number is beyond 6.7.

Importing this module imports Numba.
"""

import math
from typing import Any

import numpy as np

from xbarc.simulator.cache import njit

EACH = 4
"""Numbers that one counter gives."""

_MULTIPLY = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_ROUNDS = 10

_HALF, _ONE, _TWO = np.float32(0.5), np.float32(1), np.float32(2)
_STEP = np.float32(2.0**-31)
_LN2 = np.float32(math.log(2))
_SQRT_HALF = np.float32(math.sqrt(0.5))
_MANTISSA, _EXPONENT = np.int32(0x007FFFFF), np.int32(0x3F800000)

# sin(pi h) and cos(pi h) for |h| <= 1/2, and ln m = 2 (s + s^3 / 3 + ...): Taylor's series, cut
# where their terms are below float32's precision.
_S1, _S3, _S5, _S7, _S9, _S11 = (
    np.float32((-1) ** (n // 2) * math.pi**n / math.factorial(n)) for n in range(1, 12, 2)
)
_C2, _C4, _C6, _C8, _C10, _C12 = (
    np.float32((-1) ** (n // 2) * math.pi**n / math.factorial(n)) for n in range(2, 13, 2)
)
_L3, _L5, _L7, _L9 = (np.float32(1 / n) for n in range(3, 10, 2))


@njit(cache=True, error_model="numpy")
def _philox(counters, key, words):
    """words [4, n] of counters [4, n] (uint32): Philox4x32-10 under key [2]."""
    k0, k1 = key[0], key[1]
    for i in range(counters.shape[1]):
        a, b, c, d = counters[0, i], counters[1, i], counters[2, i], counters[3, i]
        u, w = k0, k1
        for _ in range(_ROUNDS):
            low, high = np.uint64(a) * _MULTIPLY[0], np.uint64(c) * _MULTIPLY[1]
            a = np.uint32(np.uint32(high >> np.uint64(32)) ^ b ^ u)
            b = np.uint32(high)
            c = np.uint32(np.uint32(low >> np.uint64(32)) ^ d ^ w)
            d = np.uint32(low)
            u, w = np.uint32(u + _WEYL[0]), np.uint32(w + _WEYL[1])
        words[0, i], words[1, i], words[2, i], words[3, i] = a, b, c, d


@njit(cache=True, error_model="numpy")
def _radius(words, uniform, radius):
    """radius [n] = sqrt(-2 ln u), u = (words / 2 + 1/2) / 2^31; `uniform` [n] is overwritten."""
    for i in range(len(words)):
        uniform[i] = (np.float32(np.int32(words[i] >> np.uint32(1))) + _HALF) * _STEP
    bits = uniform.view(np.int32)
    for i in range(len(words)):
        m = bits[i] & _MANTISSA | _EXPONENT
        radius.view(np.int32)[i] = m
    for i in range(len(words)):
        exponent = np.float32((bits[i] >> np.int32(23)) - np.int32(127))
        m = radius[i]  # 1 <= m < 2, brought to sqrt(1/2) .. sqrt(2)
        large = np.float32(m * _SQRT_HALF >= _ONE)
        m = m * (_ONE - _HALF * large)
        exponent = exponent + large
        s = (m - _ONE) / (m + _ONE)
        z = s * s
        ln = _TWO * s * (_ONE + z * (_L3 + z * (_L5 + z * (_L7 + z * _L9))))
        radius[i] = np.float32(np.sqrt(max(-_TWO * (exponent * _LN2 + ln), np.float32(0))))


@njit(cache=True, error_model="numpy")
def _polar(words, radius, x, y):
    """x, y [n]: radius times cosine and sine of the angle pi t, t = words / 2^31 in -1 .. 1."""
    for i in range(len(words)):
        t = np.float32(np.int32(words[i])) * _STEP
        h = _HALF - abs(t)
        z = h * h
        sine = h * (_S1 + z * (_S3 + z * (_S5 + z * (_S7 + z * (_S9 + z * _S11)))))
        cosine = _ONE + z * (_C2 + z * (_C4 + z * (_C6 + z * (_C8 + z * (_C10 + z * _C12)))))
        # cos(pi t) = sin(pi h), and sin(pi |t|) = cos(pi h).
        x[i] = radius[i] * sine
        y[i] = radius[i] * cosine * (_ONE if t >= np.float32(0) else -_ONE)


@njit(cache=True, error_model="numpy")
def fill_normals(counters, key, words, work, normals):
    """normals [4, n] float32 of counters [4, n] uint32 under key [2] uint32.

    words [4, n] uint32 and work [2, n] float32 are overwritten.
    """
    _philox(counters, key, words)
    for pair in range(2):
        _radius(words[2 * pair], work[0], work[1])
        _polar(words[2 * pair + 1], work[1], normals[2 * pair], normals[2 * pair + 1])


@njit(cache=True, nogil=True, error_model="numpy")
def normals(counters: Any, key: Any) -> Any:
    """float32 [4, n]: four normal numbers of each counter [4, n] uint32, under key [2] uint32."""
    n = counters.shape[1]
    found = np.empty((EACH, n), np.float32)
    words, work = np.empty((EACH, n), np.uint32), np.empty((2, n), np.float32)
    fill_normals(counters, key, words, work, found)
    return found
