"""What every test runs under."""

import os

import pytest
from hypothesis import settings

# A change is judged by the same examples each time; at home every run tries new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory):
    """No test reads what an earlier run kept, or writes to the user's folder."""
    os.environ["XBARC_CACHE"] = str(tmp_path_factory.mktemp("cache"))
