"""Segmentations beside each other, as a PNG file."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Cells = NDArray[np.bool_]
Pixels = NDArray[np.uint8]

MISSED, INVENTED = 253, 254
"""Palette entries; the others are grey, as bright as their number."""
MISSED_RGB, INVENTED_RGB = (214, 39, 40), (31, 119, 180)
GAP = 4


def shown(image: NDArray[np.float32]) -> Pixels:
    """An image of 0..1 in grey."""
    return np.rint(image * (MISSED - 1)).astype(np.uint8)


def judged(cells: Cells, true: Cells) -> Pixels:
    """Cells white, membranes black; membranes missed red, invented ones blue."""
    pixels = np.where(cells, 255, 0).astype(np.uint8)
    pixels[cells & ~true] = MISSED
    pixels[~cells & true] = INVENTED
    return pixels


def beside(rows: Sequence[Sequence[Pixels]]) -> Pixels:
    """Pictures of one size in rows and columns, with white between."""
    return np.block(
        [
            [np.pad(picture, ((0, GAP), (0, GAP)), constant_values=255) for picture in row]
            for row in rows
        ]
    )[:-GAP, :-GAP]


def write_png(path: Path, pixels: Pixels) -> None:
    """Palette entries (H, W) as PNG (ISO/IEC 15948), each line as the bytes are."""
    height, width = pixels.shape
    palette = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    palette[MISSED], palette[INVENTED] = MISSED_RGB, INVENTED_RGB
    lines = np.pad(pixels, ((0, 0), (1, 0))).tobytes()  # each begins with filter 0: none
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", palette.tobytes()),
        (b"IDAT", zlib.compress(lines, 9)),
        (b"IEND", b""),
    )
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, content in chunks:
            checksum = zlib.crc32(kind + content)
            file.write(struct.pack(">I", len(content)) + kind + content)
            file.write(struct.pack(">I", checksum))
