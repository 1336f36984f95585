"""Tensors to blocks of input vectors, and column sums back to real tensors (Numba).

A block of vectors is [K, v], one vector a column: that is what the matrices take, and rows of
neighbouring window positions are neighbours in memory.
"""

import numpy as np
import numpy.typing as npt
from numba import njit, prange

Integers = npt.NDArray[np.integer]


@njit(parallel=True, cache=True, nogil=True)  # type: ignore[misc]
def gather_windows(x, kernel, strides, pads, dilations, size, fill, start, out):  # type: ignore[no-untyped-def]
    """Window positions `start ..` of `x`, in the order (batch item, output position), into `out`.

    `x` [N, C, D, H, W] codes; `kernel`, `strides`, `pads` (begins), `dilations`, `size` (of the
    output): 3 integers each; `out` [C * kernel, v]; `fill` stands where a window hangs over.
    """
    positions = size[0] * size[1] * size[2]
    kernel_size = kernel[0] * kernel[1] * kernel[2]
    depth, height, width = x.shape[2], x.shape[3], x.shape[4]
    for row in prange(out.shape[0]):
        channel, offset = row // kernel_size, row % kernel_size
        kd = offset // (kernel[1] * kernel[2])
        kh = offset // kernel[2] % kernel[1]
        kw = offset % kernel[2]
        stop = out.shape[1]
        v = 0
        while v < stop:
            item, position = (start + v) // positions, (start + v) % positions
            od = position // (size[1] * size[2])
            oh = position // size[2] % size[1]
            ow = position % size[2]
            run = min(size[2] - ow, stop - v)
            d = od * strides[0] - pads[0] + kd * dilations[0]
            h = oh * strides[1] - pads[1] + kh * dilations[1]
            w = ow * strides[2] - pads[2] + kw * dilations[2]
            if d < 0 or d >= depth or h < 0 or h >= height:
                out[row, v : v + run] = fill
            else:
                # Positions [low, high) of the run lie inside the row.
                low = min(run, max(0, (strides[2] - 1 - w) // strides[2]))
                high = max(low, min(run, (width - 1 - w) // strides[2] + 1))
                out[row, v : v + low] = fill
                if strides[2] == 1:
                    out[row, v + low : v + high] = x[item, channel, d, h, w + low : w + high]
                else:
                    for j in range(low, high):
                        out[row, v + j] = x[item, channel, d, h, w + j * strides[2]]
                out[row, v + high : v + run] = fill
            v += run


@njit(parallel=True, cache=True, nogil=True)  # type: ignore[misc]
def dequantize(sums, shift, scale, bias, out):  # type: ignore[no-untyped-def]
    """`(sums - shift[n]) * scale[n] + bias[n]`, worked out in float64, as float32.

    `sums` and `out` [outer, N, inner]; `shift`, `scale`, `bias` [N] float64.
    """
    outer, columns, inner = sums.shape
    for index in prange(outer * columns):
        item, n = index // columns, index % columns
        for i in range(inner):
            out[item, n, i] = (sums[item, n, i] - shift[n]) * scale[n] + bias[n]
