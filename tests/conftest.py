"""What every test runs under."""

import os

from hypothesis import settings

# A change is judged by the same examples each time; at home every run tries new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
