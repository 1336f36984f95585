"""What every test runs under."""

import os
import sys

import pytest
from hypothesis import HealthCheck, settings

from xbarc import cli

# No test is about time: a busy machine is slow at making examples too.
patient = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("home", **patient)
settings.load_profile("home")
# A change is judged by the same examples each time; at home every run tries new ones.
settings.register_profile("ci", derandomize=True, **patient)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory):
    """No test reads what an earlier run kept, or writes to the user's folder."""
    os.environ["XBARC_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def xbarc(monkeypatch, capsys):
    """Run a command line in this process: (exit code, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["xbarc", *map(str, arguments)])
        try:
            cli.call()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


@pytest.fixture
def same_numbers():
    """The random numbers of `relay_operators`, the same for each test in any order."""
    from relay_operators import restart

    restart()
