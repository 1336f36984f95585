"""Tensors to blocks of input vectors, and column sums back to real tensors (Numba).

A block of vectors is [K, v], one vector a column: that is what the matrices take, and rows of
neighbouring window positions are neighbours in memory.
"""

import numpy as np
import numpy.typing as npt

from xbarc.simulator.cache import njit

Integers = npt.NDArray[np.integer]


@njit(cache=True, nogil=True)
def gather_windows(x, kernel, strides, pads, dilations, size, fill, start, out):  # type: ignore[no-untyped-def]
    """Window positions `start ..` of `x`, in the order (batch item, output position), into `out`.

    `x` [N, C, D, H, W] codes; `kernel`, `strides`, `pads` (begins), `dilations`, `size` (of the
    output): 3 integers each; `out` [C * kernel, v]; `fill` stands where a window hangs over.
    """
    kernel_size = kernel[0] * kernel[1] * kernel[2]
    depth, height, width = x.shape[2], x.shape[3], x.shape[4]
    step, stop = strides[2], out.shape[1]
    flat, target = x.reshape(-1), out.reshape(-1)
    first = start // (size[0] * size[1] * size[2])
    for row in range(out.shape[0]):
        channel, offset = row // kernel_size, row % kernel_size
        d0 = offset // (kernel[1] * kernel[2]) * dilations[0] - pads[0]
        h0 = offset // kernel[2] % kernel[1] * dilations[1] - pads[1]
        w0 = offset % kernel[2] * dilations[2] - pads[2]
        # Positions [low, high) of a whole output row lie inside the input's row.
        low = min(size[2], max(0, (step - 1 - w0) // step))
        high = max(low, min(size[2], (width - 1 - w0) // step + 1))
        item, position = first, start - first * size[0] * size[1] * size[2]
        od = position // (size[1] * size[2])
        oh = position // size[2] % size[1]
        ow = position % size[2]
        v = 0
        while v < stop:
            run = min(size[2] - ow, stop - v)
            d, h = od * strides[0] + d0, oh * strides[1] + h0
            at = v - ow
            if d < 0 or d >= depth or h < 0 or h >= height:
                for i in range(ow, ow + run):
                    out[row, at + i] = fill
            else:
                a, b = min(max(low, ow), ow + run), max(min(high, ow + run), ow)
                for i in range(ow, a):
                    out[row, at + i] = fill
                base = (((item * x.shape[1] + channel) * depth + d) * height + h) * width + w0
                # Unsigned indices: Numba lets signed ones count from the end, and the check for
                # that would keep the copy from being vectorised.
                for i in range(b - a):
                    source = np.uint64(base + (a + i) * step)
                    target[np.uint64(row * stop + at + a + i)] = flat[source]
                for i in range(max(a, b), ow + run):
                    out[row, at + i] = fill
            v += run
            ow = 0
            oh += 1
            if oh == size[1]:
                oh = 0
                od += 1
                if od == size[0]:
                    od = 0
                    item += 1


@njit(cache=True, nogil=True)
def scatter_windows(sums, kernel, strides, pads, dilations, size, start, out):  # type: ignore[no-untyped-def]
    """Add sums [C * kernel, v] where windows `start ..` stand on `out` [N, C, D, H, W].

    The reverse of `gather_windows`: positions in the order (batch item, window position), `size`
    positions an axis; what hangs over the edge is dropped.
    """
    kernel_size = kernel[0] * kernel[1] * kernel[2]
    depth, height, width = out.shape[2], out.shape[3], out.shape[4]
    per_item = size[0] * size[1] * size[2]
    for row in range(sums.shape[0]):
        channel, offset = row // kernel_size, row % kernel_size
        d0 = offset // (kernel[1] * kernel[2]) * dilations[0] - pads[0]
        h0 = offset // kernel[2] % kernel[1] * dilations[1] - pads[1]
        w0 = offset % kernel[2] * dilations[2] - pads[2]
        item, position = start // per_item, start % per_item
        od = position // (size[1] * size[2])
        oh = position // size[2] % size[1]
        ow = position % size[2]
        v = 0
        while v < sums.shape[1]:
            run = min(size[2] - ow, sums.shape[1] - v)
            d, h = od * strides[0] + d0, oh * strides[1] + h0
            if 0 <= d < depth and 0 <= h < height:
                line = out[item, channel, d, h]
                for i in range(run):
                    w = (ow + i) * strides[2] + w0
                    if 0 <= w < width:
                        line[w] += sums[row, v + i]
            v += run
            ow = 0
            oh += 1
            if oh == size[1]:
                oh = 0
                od += 1
                if od == size[0]:
                    od = 0
                    item += 1


@njit(cache=True, nogil=True)
def dequantize(sums, shift, scale, bias, out):  # type: ignore[no-untyped-def]
    """`(sums - shift[n]) * scale[n] + bias[n]`, worked out in float64, as float32.

    `sums` and `out` [outer, N, inner]; `shift`, `scale`, `bias` [N] float64.
    """
    outer, columns, inner = sums.shape
    for item in range(outer):
        for n in range(columns):
            for i in range(inner):
                out[item, n, i] = (sums[item, n, i] - shift[n]) * scale[n] + bias[n]
