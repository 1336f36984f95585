"""Resizing images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from xbarc.frontends.tvm_ops.builder import Builder, Operator, Unsupported, onnx_dtype
from xbarc.frontends.tvm_ops.layouts import data_from_onnx, data_to_onnx

METHODS = {"nearest_neighbor": "nearest", "linear": "linear", "cubic": "cubic"}

ROUNDINGS = {
    # TVM's `round` takes halves away from zero; a coordinate below zero is clamped anyway.
    "round": "round_prefer_ceil",
    "round_prefer_ceil": "round_prefer_ceil",
    "round_prefer_floor": "round_prefer_floor",
    "floor": "floor",
    "ceil": "ceil",
}

GRIDS = ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel", "tf_crop_and_resize")


def _resize(space: int, default: str) -> Operator:
    def resize(
        b: Builder,
        x: ir.Value,
        size: Any,
        *,
        roi: Sequence[float] | None = None,
        layout: str = default,
        method: str = "linear",
        coordinate_transformation_mode: str = "half_pixel",
        rounding_method: str = "round",
        cubic_alpha: float = -0.5,
        cubic_exclude: int = 0,
        extrapolation_value: float = 0.0,
        out_dtype: str | None = None,
    ) -> ir.Value:
        given = b.static(size) if isinstance(size, ir.Value) else np.atleast_1d(size)
        if given is None or given.size not in (1, space):
            raise Unsupported("needs a constant size")
        sizes = [int(n) for n in np.broadcast_to(given.reshape(-1), (space,))]
        return _resized(
            b,
            x,
            sizes,
            layout,
            method,
            coordinate_transformation_mode,
            rounding_method,
            cubic_alpha=cubic_alpha,
            cubic_exclude=cubic_exclude,
            roi=roi,
            extrapolation_value=extrapolation_value,
            out_dtype=out_dtype,
        )

    return resize


def _resized(
    b: Builder,
    x: ir.Value,
    sizes: Sequence[int],
    layout: str,
    method: str,
    grid: str,
    rounding: str,
    *,
    cubic_alpha: float = -0.5,
    cubic_exclude: int = 0,
    roi: Sequence[float] | None = None,
    extrapolation_value: float = 0.0,
    out_dtype: str | None = None,
) -> ir.Value:
    """`x` with these spatial sizes; a pixel outside is its nearest one inside."""
    if method not in METHODS:
        raise Unsupported(f"method {method!r}")
    if not rounding:
        rounding = "round" if grid == "align_corners" else "floor"
    if grid == "tf_half_pixel_for_nn":
        # floor((i + 0.5) s) is floor(c + 0.5) of the half-pixel coordinate c = (i + 0.5) s - 0.5.
        if method != "nearest_neighbor" or rounding != "floor":
            raise Unsupported(f"{grid} with {method}, {rounding}")
        grid, rounding = "half_pixel", "round_prefer_ceil"
    if grid not in GRIDS or rounding not in ROUNDINGS:
        raise Unsupported(f"{grid} with rounding {rounding!r}")
    space = len(sizes)
    x = data_to_onnx(b, x, layout, space)
    region = None
    if grid == "tf_crop_and_resize":
        ends = [*(roi or ())]
        if len(ends) != 2 * space:
            raise Unsupported("tf_crop_and_resize needs its roi")
        corners = [0, 0, *ends[:space], 1, 1, *ends[space:]]
        region = b.constant(np.array(corners, np.float32), "roi")
    batch = b.dims(x)[0]
    settings: dict[str, Any] = {
        "mode": METHODS[method],
        "coordinate_transformation_mode": grid,
        "nearest_mode": ROUNDINGS[rounding] if method == "nearest_neighbor" else None,
        "cubic_coeff_a": cubic_alpha if method == "cubic" else None,
        "exclude_outside": cubic_exclude if method == "cubic" else None,
        "extrapolation_value": extrapolation_value if region is not None else None,
        "axes": list(range(2, 2 + space)) if not isinstance(batch, int) else None,
    }
    whole = list(sizes) if settings["axes"] else [*b.sizes_of(x, (0, 1)), *sizes]
    if settings["axes"] and region is not None:
        raise Unsupported("tf_crop_and_resize needs a batch that is known")
    y = b.op("Resize", x, region, None, b.ints(whole), **settings)
    if out_dtype:
        y = b.cast(y, onnx_dtype(out_dtype))
    return data_from_onnx(b, y, layout, space)


def upsampling(
    b: Builder,
    x: ir.Value,
    *,
    scale_h: float = 1,
    scale_w: float = 1,
    layout: str = "NCHW",
    method: str = "nearest_neighbor",
    align_corners: bool = False,
) -> ir.Value:
    """A resize by scales; pixels sit at their corners, unless the corners are aligned."""
    axes = [layout.find("H"), layout.find("W")]
    if min(axes) < 0:
        raise Unsupported(f"layout {layout!r}")
    height, width = b.sizes_of(x, axes)
    sizes = [round(height * scale_h), round(width * scale_w)]
    kind = method.removeprefix("bi") if method.startswith("bi") else method
    grid = "align_corners" if align_corners else "asymmetric"
    return _resized(b, x, sizes, layout, kind, grid, "")


def upsampling3d(
    b: Builder,
    x: ir.Value,
    *,
    scale_d: float = 1,
    scale_h: float = 1,
    scale_w: float = 1,
    layout: str = "NCDHW",
    method: str = "nearest_neighbor",
    coordinate_transformation_mode: str = "half_pixel",
) -> ir.Value:
    """`upsampling` of volumes, with the grid named."""
    axes = [layout.find(letter) for letter in "DHW"]
    if min(axes) < 0:
        raise Unsupported(f"layout {layout!r}")
    scales = (scale_d, scale_h, scale_w)
    sizes = [round(n * scale) for n, scale in zip(b.sizes_of(x, axes), scales, strict=True)]
    kind = method.removeprefix("tri") if method.startswith("tri") else method
    return _resized(b, x, sizes, layout, kind, coordinate_transformation_mode, "")


OPERATORS: dict[str, Operator] = {
    "image.resize1d": _resize(1, "NCW"),
    "image.resize2d": _resize(2, "NCHW"),
    "image.resize3d": _resize(3, "NCDHW"),
    "nn.upsampling": upsampling,
    "nn.upsampling3d": upsampling3d,
}
