"""A layer as crossbars compute it, as a torch module.

    codes = clip(rint(x / s_x))        straight-through gradient, also to s_x where it is learned
    q     = rint(W / s_w)              straight-through gradient
    sums  = what the arrays give for the codes
    y     = sums s_x s_w + bias

There are four ways to the sums. Where no conversion can lose anything they are the product of
integers. Where arrays are wrong but what follows is linear they are the product with what cells
really hold, and read noise is drawn once a sum. Where converters read whole weights and inputs they
are products by row blocks, converted (`xbarc.train.converted`). All else is run by the simulator's
own steps (`xbarc.train.hardware`), with the gradient of the product.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xbarc.hw.quantization import InputScale, code_dtype
from xbarc.lowering.layer import Layer
from xbarc.support.data import Array
from xbarc.train.converted import RowBlocks
from xbarc.train.graph import options_of
from xbarc.train.hardware import Arrays, Hardware
from xbarc.train.operators import OPERATORS
from xbarc.train.straight_through import clipped, replaced, rounded, scaled_gradient

EXACT = 1 << 24
"""Below this float32 holds every integer."""


class Quantiser(nn.Module):
    """Real activations to codes less their zero point, for layers that read one value, `source`.

    `scale` is what calibration showed, times `factor`: a parameter where ranges are `learned`
    (after LSQ: Esser et al., ICLR 2020), else 1. Adam's steps are as large as the learning rate,
    whatever the gradient: a scale itself would leave its place in a few of them.
    """

    def __init__(self, source: str, scale: InputScale, *, learned: bool) -> None:
        super().__init__()
        self.source, self.bits, self.signed, self.learned = (
            source,
            scale.bits,
            scale.signed,
            learned,
        )
        self.zero = scale.zero_point
        self.lowest = -scale.largest_code if scale.signed else -self.zero
        self.largest = scale.largest_code - self.zero
        self.shown: Tensor
        self.register_buffer("shown", torch.tensor(scale.scale, dtype=torch.float64))
        self.factor = nn.Parameter(torch.ones((), dtype=torch.float64), requires_grad=learned)

    @property
    def scale(self) -> Tensor:
        """What one code stands for."""
        return self.shown * self.factor

    @property
    def range(self) -> tuple[float, float]:
        """The range that these codes stand for; compiling makes the same scale of it."""
        scale = float(self.scale.detach())
        return self.lowest * scale, self.largest * scale

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        """Codes of x, as real numbers of the type of `scale`."""
        return clipped(x.to(scale.dtype) / scale, self.lowest, self.largest)

    def scale_for(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """The scale, with the gradient that fits as many activations as x has."""
        if not self.learned:
            return self.shown.to(dtype)
        share = 1 / np.sqrt(max(x.numel(), 1) * (self.largest - self.lowest))
        return scaled_gradient(self.scale, float(share)).to(dtype)


@dataclass
class Errors:
    """What arrays make of a layer's weights where all is linear, in the layout of the weights.

    `offset` is what each weight is off by. `variances` of read noise, in level steps, for the
    `squares` of each code by its lowest bits, and `fixed` a column; None without noise.
    """

    offset: Tensor
    variances: Tensor | None
    squares: Tensor
    fixed: Tensor | None


class Crossbar(nn.Module):
    """One layer of a network; takes its node's inputs and gives the node's output.

    `axis`: that of the result along which the columns lie. `exact`: sums and scales are worked out
    as the simulator does, in float64; else in float32, for speed. `first`: the number of the first
    input, on which noise depends.
    """

    def __init__(
        self, layer: Layer, axis: int, quantiser: Quantiser, hardware: Hardware, bits: int
    ) -> None:
        super().__init__()
        self.layer, self.axis, self.quantiser, self.bits = layer, axis, quantiser, bits
        self.hardware = hardware
        self.exact, self.first, self.rank = True, 0, 0
        self.arrays: Arrays | None = None
        self.errors: Errors | None = None
        self.blocks: RowBlocks | None = None
        kind, product = layer.kind, layer.product
        places = np.arange(int(np.prod(product.shape))).reshape(product.shape)
        matrix = np.ascontiguousarray(kind.as_matrix(product, places))  # [K, N] of flat indices
        self.register_buffer("_matrix", torch.from_numpy(matrix), persistent=False)
        back = np.argsort(matrix.ravel(), kind="stable")
        self.register_buffer("_back", torch.from_numpy(back), persistent=False)
        self._factor, self._bias_factor = kind.factors(product)
        self._function = OPERATORS[product.node.op_type]
        self._options = options_of(product.node, without=("alpha", "beta"))

    def as_matrix(self, weights: Tensor) -> Tensor:
        """Weights in ONNX's layout as [K, N]."""
        index: Any = self._matrix
        return weights.reshape(-1)[index]

    def as_stored(self, matrix: Tensor) -> Tensor:
        """A matrix [K, N] in the layout of the weights."""
        index: Any = self._back
        return matrix.reshape(-1)[index].reshape(self.layer.product.shape)

    def integers(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """q [K, N] as real numbers, and the scale [N] of each column (numerics: Quantisation)."""
        matrix = self.as_matrix(weights).double()
        largest = (1 << (self.bits - 1)) - 1
        peak = matrix.detach().abs().amax(dim=0)
        scale = torch.where(peak > 0, peak / largest, torch.ones_like(peak))
        return rounded(matrix / scale), scale

    def codes_for_cells(self, weights: Tensor) -> Array:
        """q [K, N] as integers, as they are written to cells."""
        with torch.no_grad():
            q, _ = self.integers(weights)
        return q.cpu().numpy().astype(code_dtype(self.bits, signed=True))

    def forward(self, *inputs: Tensor | None) -> Tensor:
        """y for the inputs of the layer's node."""
        product = self.layer.product
        x, weights = inputs[product.moving], inputs[product.static]
        assert x is not None and weights is not None
        kind = torch.float64 if self.exact else torch.float32
        s_x = self.quantiser.scale_for(x, kind)
        codes = self.quantiser(x, s_x)
        q, s_w = self.integers(weights)
        self.rank = x.ndim
        sums = self._sums(codes, q)
        factor = self._along((s_w * self._factor).to(kind) * s_x, kind)
        bias = self._bias(inputs)
        if bias is not None and not self.exact:  # in one go
            return torch.addcmul(self._along(bias, kind), sums.to(kind), factor)
        y = sums.to(kind) * factor
        return (y if bias is None else y + self._along(bias, kind)).float()

    def _bias(self, inputs: tuple[Tensor | None, ...]) -> Tensor | None:
        place = self.layer.kind.bias
        given = None if place is None or len(inputs) <= place else inputs[place]
        if given is None:
            return None
        bias = (
            given.reshape(-1) if self._bias_factor == 1 else given.reshape(-1) * self._bias_factor
        )
        return bias.float().expand(self.layer.matrix[1])

    def _sums(self, codes: Tensor, q: Tensor) -> Tensor:
        if self.blocks is not None:
            return self._converted(codes, q, self.blocks)
        if self.arrays is None and self.errors is None:
            return self._product(codes, q, self._sum_type(q))
        if self.errors is not None:
            return self._with_errors(codes, q, self.errors)
        assert self.arrays is not None
        held = codes.detach().cpu().numpy() + self.quantiser.zero
        numbers = held.astype(code_dtype(self.quantiser.bits, self.quantiser.signed))
        found = self.arrays.run(np.ascontiguousarray(numbers), self.first)
        sums = torch.from_numpy(found).to(codes.device, codes.dtype) - self._of_zero(codes, q)
        if not torch.is_grad_enabled():
            return sums
        return replaced(self._product(codes, q, torch.float32).to(codes.dtype), sums)

    def _converted(self, codes: Tensor, q: Tensor, blocks: RowBlocks) -> Tensor:
        """Sums of converters behind row blocks, with the gradient of the product."""
        kind = codes.device.type
        with torch.autocast(kind, enabled=False):
            sums = blocks.sums(codes.detach(), q.detach().float(), self._part, self._of_zero)
            sums = sums - self._of_zero(codes, q)
        if not torch.is_grad_enabled():
            return sums
        return replaced(self._product(codes, q, torch.float32).to(codes.dtype), sums)

    def _part(self, codes: Tensor, q: Tensor) -> Tensor:
        """The product where most rows of q [K, N] are zero."""
        stored = self.as_stored(q)
        if self.layer.node.op_type != "Conv":
            return self._operate(codes, stored)
        some = stored.ne(0).flatten(2).any(dim=2).any(dim=0).nonzero()  # channels [.., 1]
        if not len(some):
            return self._operate(codes, stored)
        first, last = int(some[0]), int(some[-1]) + 1
        return self._operate(codes[:, first:last], stored[:, first:last])

    def _of_zero(self, codes: Tensor, q: Tensor) -> Tensor:
        """What the zero point adds to the sums, exactly (numerics: Zero points)."""
        zero = self.quantiser.zero
        if not zero:
            return torch.zeros((), dtype=codes.dtype, device=codes.device)
        if self.layer.node.op_type == "ConvTranspose":  # no output sees the whole kernel
            everywhere = torch.full_like(codes, zero, dtype=torch.float64)
            return self._product(everywhere, q.detach(), torch.float64).to(codes.dtype)
        return zero * self._along(q.detach().sum(dim=0), codes.dtype)

    def _along(self, columns: Tensor, dtype: torch.dtype) -> Tensor:
        """Numbers of columns [N], shaped as the result has them."""
        return columns.to(dtype).reshape([-1 if i == self.axis else 1 for i in range(self.rank)])

    def _sum_type(self, q: Tensor) -> torch.dtype:
        """What holds the product of integers: exactly, where that is asked for."""
        if not self.exact:
            return torch.float32
        if q.is_cuda:
            return torch.float64  # convolutions in float32 may go another way there
        reach = max(self.quantiser.largest, -self.quantiser.lowest) + 1
        largest = float(q.detach().abs().sum(dim=0).max()) * reach
        return torch.float32 if largest < EXACT else torch.float64

    def _product(self, codes: Tensor, q: Tensor, dtype: torch.dtype) -> Tensor:
        """The layer's operator on codes and integer weights [K, N]."""
        return self._operate(codes.to(dtype), self.as_stored(q.to(dtype)))

    def _operate(self, codes: Tensor, stored: Tensor) -> Tensor:
        product = self.layer.product
        operands = (stored, codes) if product.static < product.moving else (codes, stored)
        result: Tensor = self._function(*operands, **self._options)
        return result

    def _with_errors(self, codes: Tensor, q: Tensor, errors: Errors) -> Tensor:
        narrow = codes.float()
        sums = self._operate(narrow, self.as_stored(q.float()) + errors.offset)
        zero = self.quantiser.zero
        if zero:  # it meets what is wrong with the cells, and is taken out by what isn't
            wrong = self.as_matrix(errors.offset).sum(dim=0)
            sums = sums + zero * self._along(wrong, sums.dtype)
        if errors.variances is None and errors.fixed is None:
            return sums
        variance = torch.zeros((), device=sums.device)
        with torch.no_grad():
            if errors.variances is not None:
                squares = errors.squares
                index = (narrow.detach().long() + zero) & (len(squares) - 1)
                # Padding has the code of 0, and its noise.
                variance = self._operate(squares[index] - squares[zero], errors.variances)
                padding = self.as_matrix(errors.variances).sum(dim=0) * squares[zero]
                variance = variance + self._along(padding, sums.dtype)
            if errors.fixed is not None:
                variance = variance + self._along(errors.fixed, sums.dtype)
            noise = variance.clamp(min=0).sqrt() * torch.randn_like(sums)
        return sums + noise

    def errors_of(self, arrays: Arrays, q: Array, device: torch.device) -> Errors | None:
        """What linear arrays make of the weights q; None where they aren't a matrix of this layer.

        With several groups in one tile the cells between the blocks may be off as well: no
        weight is there, so such arrays aren't taken.
        """
        found = arrays.effective()
        groups, (rows, columns) = self.layer.groups, self.layer.matrix
        if found is None or found.weights.shape != (rows * groups, columns):
            return None
        weights = _blocks(found.weights, groups)
        variances = None if found.variances is None else _blocks(found.variances, groups)
        if weights is None or (variances is None and found.variances is not None):
            return None

        def tensor(array: Array) -> Tensor:
            return torch.from_numpy(array).to(device, torch.float32)

        return Errors(
            self.as_stored(tensor(weights - q)),
            None if variances is None else self.as_stored(tensor(variances)),
            tensor(found.squares),
            tensor(found.fixed) if found.fixed.any() else None,
        )


def _blocks(matrix: Array, groups: int) -> Array | None:
    """The blocks of a block-diagonal matrix as [Kg, N]; None where something stands between."""
    if groups == 1:
        return matrix
    rows, columns = matrix.shape
    four = matrix.reshape(groups, rows // groups, groups, columns // groups)
    own = four[np.arange(groups), :, np.arange(groups)]  # [G, Kg, N / G]
    if np.count_nonzero(matrix) != np.count_nonzero(own):
        return None
    return np.ascontiguousarray(own.transpose(1, 0, 2).reshape(rows // groups, columns))
