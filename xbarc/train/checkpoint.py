"""Where training stands, in one safetensors file: written whole, or not at all.

A run that was killed goes on from it with the same bits: all that is random follows from the seed,
the epoch and the step.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from xbarc.support.errors import UsageError, XbarcError

META = "xbarc.training"


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and what is said of them (JSON)."""

    tensors: dict[str, Tensor]
    said: dict[str, Any]

    def of(self, part: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `part/`, without that."""
        start = f"{part}/"
        return {n.removeprefix(start): t for n, t in self.tensors.items() if n.startswith(start)}


def save(path: Path, tensors: Mapping[str, Tensor], said: Mapping[str, Any]) -> None:
    """Write a checkpoint. Raises `XbarcError` where the disk refuses."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    try:
        safetensors.torch.save_file(plain, temporary, {META: json.dumps(said)})
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise XbarcError(f"can't write the checkpoint {path}: {error}") from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def load(path: Path, question: str) -> Checkpoint | None:
    """The checkpoint at `path`; None where there is none yet.

    Raises:
        UsageError: it is of another training: `question` is what this one is about.
        XbarcError: it can't be read.
    """
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, "pt") as file:
            said = json.loads((file.metadata() or {})[META])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError, KeyError, ValueError) as error:
        raise XbarcError(f"{path} is no checkpoint of xbarc tune: {error}") from None
    if said.get("question") != question:
        raise UsageError(
            f"{path} is of another training (other model, data or options): name another file, or "
            "remove it"
        )
    return Checkpoint(tensors, said)
