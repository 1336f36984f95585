"""What a compiled program's folder holds, by its manifest, and which folder is one."""

import json
import re
from pathlib import Path
from typing import Any

from xbarc.support.errors import XbarcError
from xbarc.support.files import MANIFEST

__all__ = ["FORMAT", "MANIFEST", "PROGRAM", "REPORT", "TARGET", "WEIGHTS", "manifest"]

FORMAT = 1
"""Changes when an older xbarc couldn't read a program."""

PROGRAM, WEIGHTS, TARGET = "program.mlir", "weights.safetensors", "target.toml"
REPORT = "report.json"

FILE = re.compile(
    r"program\.mlir|weights\.safetensors|target\.toml|report\.json|digital/[\w.-]+\.onnx"
    r"|float\.(onnx|data)"
)

SHA256 = re.compile(r"[0-9a-f]{64}")


def manifest(path: Path) -> dict[str, Any]:
    """What the manifest of the program in the directory `path` says.

    Raises `XbarcError` where there is none, it is damaged, or of another format.
    """
    if not path.is_dir():
        what = "not a directory" if path.exists() else "no such program"
        raise XbarcError(f"{path}: {what}")
    try:
        found = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except OSError:
        raise XbarcError(f"{path}: not an xbarc program: it has no {MANIFEST}") from None
    except (ValueError, RecursionError) as error:
        raise XbarcError(f"{path}: {MANIFEST} is damaged: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("files"), dict):
        raise XbarcError(f"{path}: {MANIFEST} is damaged: it lists no files")
    if found.get("format") != FORMAT:
        raise XbarcError(
            f"{path}: of format {found.get('format')}, this xbarc reads {FORMAT}: compile again"
        )
    return found


def files_of(path: Path) -> list[str] | None:
    """The files that the program at `path` lists; None where no program of ours stands there.

    Of any format, and though its files may be damaged: a program that can't be read any more may
    still be replaced. The name `manifest.json` alone says nothing: web pages have one too.
    """
    try:
        found = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("format"), int):
        return None
    files = found.get("files")
    if not isinstance(files, dict) or PROGRAM not in files:
        return None
    ours = all(
        FILE.fullmatch(name) and isinstance(digest, str) and SHA256.fullmatch(digest)
        for name, digest in files.items()
    )
    return sorted(files) if ours else None
