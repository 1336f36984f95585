"""The ISBI 2012 membrane images as the network takes them, and how they are split.

Thirty slices of the ventral nerve cord of a fruit fly larva under the electron microscope, 512 x
512, with the membranes drawn by hand (Arganda-Carreras et al., Frontiers in Neuroanatomy 9:142,
2015). They aren't part of xbarc: `XBARC_DATA` names the folder that has
`data/isbi2012_membrane.npz`, with `images` and `masks` (255 cell, 0 membrane), both (30, 512, 512).
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
Cells = NDArray[np.bool_]

TRAIN_IMAGES = 20
SIDE = 512


@dataclass(frozen=True)
class Slices:
    """Images (N, 1, 512, 512), scaled from 0..255 to 0..1, and where cells are (not membrane)."""

    images: Images
    cells: Cells


def path() -> Path:
    """Where the data are; ends the program in one line where they aren't."""
    folder = os.environ.get("XBARC_DATA")
    if not folder:
        sys.exit("XBARC_DATA names no folder with data/isbi2012_membrane.npz")
    file = Path(folder) / "data" / "isbi2012_membrane.npz"
    if not file.is_file():
        sys.exit(f"{file}: no such file; XBARC_DATA names the folder that has data/")
    return file


def load() -> tuple[Slices, Slices]:
    """The first 20 slices, to train on, and the last 10, held out."""
    with np.load(path()) as stored:
        images = (stored["images"] / 255).astype(np.float32)[:, None]
        cells = stored["masks"][:, None] > 127
    head, tail = slice(TRAIN_IMAGES), slice(TRAIN_IMAGES, None)
    return Slices(images[head], cells[head]), Slices(images[tail], cells[tail])
