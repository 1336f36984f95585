"""Models and data of others in the folder that `XBARC_DATA` names: models, data, relay."""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("XBARC_DATA", ""))
"""Only where `needs_shared` lets a test run."""

needs_shared = pytest.mark.skipif(
    "XBARC_DATA" not in os.environ, reason="XBARC_DATA names no folder with models/ and data/"
)
