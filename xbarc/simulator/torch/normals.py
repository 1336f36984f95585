"""The normal numbers of `xbarc.simulator.normals`, by operations of torch: the same bits.

32-bit words stand in int64, whose products would overflow: so one factor is cut in two halves.
"""

import torch
from torch import Tensor

from xbarc.simulator import normals as law

LOW = 0xFFFFFFFF
HALF = 0xFFFF


def normals(counters: list[Tensor], key: tuple[int, int]) -> Tensor:
    """float32 [4, n]: four normal numbers of each counter (four int64 [n]) under a key."""
    words = _philox(counters, key)
    found = [_polar(words[2 * pair + 1], _radius(words[2 * pair])) for pair in range(2)]
    return torch.stack([number for pair in found for number in pair])


def _philox(counters: list[Tensor], key: tuple[int, int]) -> list[Tensor]:
    """The four words of Philox4x32-10."""
    a, b, c, d = counters
    u, w = key
    first, second = (int(m) for m in law._MULTIPLY)
    for _ in range(law._ROUNDS):
        a_high, a_low = _product(a, first)
        c_high, c_low = _product(c, second)
        a, b, c, d = c_high ^ b ^ u, c_low, a_high ^ d ^ w, a_low
        u, w = (u + int(law._WEYL[0])) & LOW, (w + int(law._WEYL[1])) & LOW
    return [a, b, c, d]


def _product(x: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """The upper and the lower 32 bits of a product of 32-bit numbers."""
    low, high = (x & HALF) * factor, (x >> 16) * factor
    total = (low >> 16) + high
    return total >> 16, ((total & HALF) << 16) | (low & HALF)


def _signed(words: Tensor) -> Tensor:
    return torch.where(words > LOW >> 1, words - (1 << 32), words)


def _radius(words: Tensor) -> Tensor:
    """sqrt(-2 ln u), u = (words / 2 + 1/2) / 2^31."""
    one, half = 1.0, 0.5
    uniform = ((words >> 1).to(torch.float32) + half) * float(law._STEP)
    bits = uniform.view(torch.int32)
    m = (bits & int(law._MANTISSA) | int(law._EXPONENT)).view(torch.float32)
    exponent = ((bits >> 23) - 127).to(torch.float32)
    large = (m * float(law._SQRT_HALF) >= one).to(torch.float32)
    m = m * (one - half * large)
    exponent = exponent + large
    s = (m - one) / (m + one)
    z = s * s
    l3, l5, l7, l9 = (float(c) for c in (law._L3, law._L5, law._L7, law._L9))
    ln = 2.0 * s * (one + z * (l3 + z * (l5 + z * (l7 + z * l9))))
    return root(torch.clamp(-2.0 * (exponent * float(law._LN2) + ln), min=0.0))


def root(x: Tensor) -> Tensor:
    """The square root of float32, rounded right: torch's own may miss the last bit on the CPU."""
    return x.to(torch.float64).sqrt().to(torch.float32)


def _polar(words: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """The radius times cosine and sine of the angle pi t, t = words / 2^31 in -1 .. 1."""
    t = _signed(words).to(torch.float32) * float(law._STEP)
    h = 0.5 - t.abs()
    z = h * h
    s1, s3, s5, s7, s9, s11 = (
        float(c) for c in (law._S1, law._S3, law._S5, law._S7, law._S9, law._S11)
    )
    c2, c4, c6, c8, c10, c12 = (
        float(c) for c in (law._C2, law._C4, law._C6, law._C8, law._C10, law._C12)
    )
    sine = h * (s1 + z * (s3 + z * (s5 + z * (s7 + z * (s9 + z * s11)))))
    cosine = 1.0 + z * (c2 + z * (c4 + z * (c6 + z * (c8 + z * (c10 + z * c12)))))
    sign = torch.where(t >= 0, 1.0, -1.0).to(torch.float32)
    return radius * sine, radius * cosine * sign
