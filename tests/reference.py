"""A crossbar in plain numpy, straight from the numerics: what every kernel is held to."""

import numpy as np

from xbarc.hw.target import Target

UNIT = {"area_um2": 1.0, "energy_pj": 1.0, "source": "test"}
COMPONENTS = (
    "adc",
    "dac",
    "crossbar",
    "sample_hold",
    "shift_add",
    "input_register",
    "output_register",
)


def make_target(**overrides):
    """A target for tests; `make_target(array={"rows": 64}, adc={"bits": 6})` overrides keys."""
    tables = {
        "name": "test",
        "array": {"rows": 128, "cols": 4096, "cell_bits": 2},
        "device": {
            "g_on_us": 100.0,
            "g_off_us": 1.0,
            "read_voltage_v": 0.2,
            "read_pulse_ns": 10.0,
            "write_voltage_v": 1.0,
            "write_pulse_ns": 10.0,
        },
        "cost": dict.fromkeys(COMPONENTS, UNIT),
    }
    for table, keys in overrides.items():
        tables[table] = {**tables.get(table, {}), **keys}
    return Target.model_validate(tables)


def dense_weights(q, groups):
    """The block-diagonal [groups*Kg, N] matrix that weights [Kg, N] stand for."""
    rows, cols = q.shape
    dense = np.zeros((groups * rows, cols), np.int64)
    for n in range(cols):
        first = n // (cols // groups) * rows
        dense[first : first + rows, n] = q[:, n]
    return dense


def crossbar_matmul(
    x,
    q,
    segments,
    target,
    weight_bits,
    input_bits,
    input_signed,
    adc_range=None,
    counts=None,
    gated=False,
):
    """Codes x [V, K] times weights q [K, N] as the crossbars give it: [V, N], int64 or float64.

    `gated`: in a segment rows and columns of zeros are off, and so are bit lines at level 0.
    `counts`, a dict, gets the number of conversions and of saturated ones.
    """
    array, adc = target.array, target.adc
    cell_bits, dac_bits, top = array.cell_bits, target.inputs.dac_bits, 2**adc.bits - 1
    differential, analog = array.encoding == "differential", adc.subtract == "analog"
    x, q = np.asarray(x, np.int64), np.asarray(q, np.int64)

    # Word line levels of every activation, with what the activation weighs.
    count = -(-input_bits // dac_bits)
    inputs = []
    if not input_signed:
        passes = [(x, 1)]
    elif target.inputs.signed != "twos-complement":
        passes = [(np.where(x > 0, x, 0), 1), (np.where(x < 0, -x, 0), -1)]
    else:
        passes = [(x % 2**input_bits, 1)]
    for codes, sign in passes:
        powers = [2 ** (j * dac_bits) for j in range(count)]
        inputs += [[codes // power % 2**dac_bits, sign * power] for power in powers]
    if input_signed and target.inputs.signed == "twos-complement":
        inputs[-1][1] *= -1
    if input_signed and target.inputs.signed == "native":
        # Both at once: a row carries a level of either sign.
        pairs = zip(inputs[:count], inputs[count:], strict=True)
        inputs = [[plus - minus, weight] for (plus, weight), (minus, _) in pairs]

    # Cell levels of every slice, with what the slice weighs. Analog: G- is subtracted in the
    # column.
    if differential:
        positive, negative, bits = np.where(q > 0, q, 0), np.where(q < 0, -q, 0), weight_bits - 1
    else:
        positive, negative, bits = q + 2 ** (weight_bits - 1), None, weight_bits
    cells = []
    for s in range(-(-bits // cell_bits)):
        weight = 2 ** (s * cell_bits)
        plus = positive // weight % 2**cell_bits
        if not differential:
            cells.append((plus, plus, weight))
            continue
        minus = negative // weight % 2**cell_bits
        if analog:
            cells.append((plus - minus, plus + minus, weight))
        else:
            cells += [(plus, plus, weight), (minus, minus, -weight)]

    integer = adc.mode in ("lossless", "saturate")
    out = np.zeros((len(x), q.shape[1]), np.int64 if integer else np.float64)
    conversions = saturated = 0
    for segment in segments:
        rows = np.arange(segment.row_begin, segment.row_end)
        cols = np.arange(segment.col_begin, segment.col_end)
        full = len(rows) * (2**dac_bits - 1) * (2**cell_bits - 1)
        if gated:
            some = q[np.ix_(rows, cols)] != 0
            rows, cols = rows[some.any(axis=1)], cols[some.any(axis=0)]
        if adc.mode == "saturate":
            lo, step = (-(2 ** (adc.bits - 1)) if analog else 0), 1
        elif adc.mode == "full-scale":
            lo = float(-full) if analog else 0.0
            step = (float(full) - lo) / top
        elif adc.mode == "calibrated":
            lo = adc_range[0]
            step = (adc_range[1] - lo) / top
        else:
            lo, step = 0, 1
        codes = np.zeros((len(x), len(cols)), np.int64)
        weights = np.zeros(len(cols), np.int64)
        for levels_in, weight_in in inputs:
            for levels, held, weight in cells:
                on = np.full(len(cols), True)
                if gated:
                    on = held[np.ix_(rows, cols)].any(axis=0)
                a = levels_in[:, rows] @ levels[np.ix_(rows, cols)][:, on]
                if adc.mode == "lossless":
                    code = a
                else:
                    unclipped = np.rint((a - lo) / step)
                    code = np.clip(unclipped, 0, top).astype(np.int64)
                    saturated += int(np.sum(unclipped != code))
                codes[:, on] += weight_in * weight * code
                weights[on] += weight_in * weight
                conversions += a.size
        correction = (
            0 if differential else 2 ** (weight_bits - 1) * x[:, rows].sum(1, keepdims=True)
        )
        out[:, cols] += step * codes + lo * weights - correction
    if counts is not None:
        counts.update(conversions=conversions, saturated=saturated)
    return out


def convolved(x, w, *, strides, pads, dilations, groups=1, fill=0):
    """Codes x [N, C, spatial...] convolved with w [M, C / groups, kernel...], in integers.

    `fill` stands in the padding: begins, then ends.
    """
    x, w = np.asarray(x, np.int64), np.asarray(w, np.int64)
    rank = x.ndim - 2
    around = [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)]
    x = np.pad(x, around, constant_values=fill)
    kernel = w.shape[2:]
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    sizes = [(s - r) // t + 1 for s, r, t in zip(x.shape[2:], reach, strides, strict=True)]
    out = np.zeros((len(x), len(w), *sizes), np.int64)
    filters, channels = len(w) // groups, w.shape[1]
    for m in range(len(w)):
        first = m // filters * channels
        for where in np.ndindex(*kernel):
            shifted = tuple(
                slice(i * d, i * d + (n - 1) * t + 1, t)
                for i, d, n, t in zip(where, dilations, sizes, strides, strict=True)
            )
            for c in range(channels):
                out[:, m] += w[(m, c, *where)] * x[(slice(None), first + c, *shifted)]
    return out


def transposed(x, w, size, *, strides, pads, dilations, groups=1):
    """The transposed convolution of x [N, C, spatial...] by w [C, M / groups, kernel...].

    `size` is the result's; `pads` begin with how far the first products hang over it, axis by axis.
    """
    x, w = np.asarray(x, np.int64), np.asarray(w, np.int64)
    begins, channels, filters = pads[: x.ndim - 2], len(w) // groups, w.shape[1]
    out = np.zeros((len(x), groups * filters, *size), np.int64)
    for place in np.ndindex(*x.shape[2:]):
        for tap in np.ndindex(*w.shape[2:]):
            at = [
                p * s + t * d - b
                for p, s, t, d, b in zip(place, strides, tap, dilations, begins, strict=True)
            ]
            if any(not 0 <= a < n for a, n in zip(at, size, strict=True)):
                continue
            for g in range(groups):
                rows = slice(g * channels, (g + 1) * channels)
                columns = slice(g * filters, (g + 1) * filters)
                products = x[(slice(None), rows, *place)] @ w[(rows, slice(None), *tap)]
                out[(slice(None), columns, *at)] += products
    return out


def padded(x, conv):
    """Codes x [N, C, spatial...] with the padding of a convolution around them."""
    _, pads, _ = conv.geometry()
    around = [(pads[i], pads[i + conv.rank]) for i in range(conv.rank)]
    return np.pad(x.astype(np.int64), [(0, 0), (0, 0), *around], constant_values=conv.fill)


def direct_convolution(x, q, conv):
    """`convolved` by weights q [C of a group x kernel, filters]."""
    strides, pads, dilations = conv.geometry()
    w = q.T.reshape(conv.filters, -1, *conv.kernel)
    return convolved(
        x, w, strides=strides, pads=pads, dilations=dilations, groups=conv.groups, fill=conv.fill
    )


def toeplitz(q, conv, window, apart, patch):
    """The matrix from a window's inputs to a patch of outputs, cell by cell, groups of zeros too.

    Rows (channel, window position), columns (filter, patch position); window entries stand `apart`.
    """
    strides, _, dilations = conv.geometry()
    each = conv.channels // conv.groups
    matrix = np.zeros((conv.channels, *window, conv.filters, *patch), np.int64)
    for f in range(conv.filters):
        first = f // (conv.filters // conv.groups) * each
        weights = q[:, f].reshape(each, *conv.kernel)
        for c in range(each):
            for p in np.ndindex(*patch):
                for i in np.ndindex(*conv.kernel):
                    u = (np.multiply(strides, p) + np.multiply(dilations, i)) // apart
                    matrix[(first + c, *u, f, *p)] = weights[(c, *i)]
    return matrix.reshape(conv.channels * np.prod(window), conv.filters * np.prod(patch))


def patch_convolution(x, q, conv, window, apart, patch, segments, target):
    """What crossbars give that hold the Toeplitz matrix of a patch, patch after patch."""
    strides, _, _ = conv.geometry()
    matrix, wide = toeplitz(q, conv, window, apart, patch), padded(x, conv)
    size = conv.output()
    positions = -(-np.array(size) // patch)
    # Room for windows that hang over.
    room = np.multiply(window, apart) + 2 * np.multiply(patch, strides)
    around = [(0, 0), (0, 0), *((0, more) for more in room)]
    wide = np.pad(wide, around, constant_values=conv.fill)
    out = np.zeros((len(x), conv.filters, *(positions * patch)))
    for y in np.ndindex(*positions):
        begin = np.multiply(y, patch) * strides
        ends = begin + np.multiply(window, apart)
        seen = [slice(*span) for span in np.stack([begin, ends, np.array(apart)], axis=1)]
        vectors = wide[(slice(None), slice(None), *seen)].reshape(len(x), -1)
        sums = crossbar_matmul(vectors, matrix, segments, target, 8, 8, x.dtype.kind == "i")
        first = np.multiply(y, patch)
        place = [slice(*span) for span in np.stack([first, first + patch], axis=1)]
        out[(slice(None), slice(None), *place)] = sums.reshape(len(x), conv.filters, *patch)
    return out[(slice(None), slice(None), *(slice(s) for s in size))]
