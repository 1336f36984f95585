"""A device effect is one file."""

import numpy as np
import pytest
from test_analog import product, vectors

from xbarc.driver import extensions
from xbarc.simulator.analog.engine import AnalogEngine
from xbarc.simulator.effect import EFFECTS
from xbarc.simulator.interpreter import Simulator
from xbarc.support.errors import UsageError

FATIGUE = """
from dataclasses import dataclass
from typing import ClassVar

from xbarc.simulator.effect import Effect


@dataclass(frozen=True)
class Fatigue(Effect):
    '''Cells lose `share` of their conductance.'''

    name: ClassVar[str] = "fatigue"

    share: float = 0.25

    def age(self, g, array, draw):
        return g * (1 - self.share)
"""


def test_a_plugins_effect_acts(tmp_path):
    path = tmp_path / "fatigue.py"
    path.write_text(FATIGUE)
    program = product(overrides=["adc.mode=lossless"])
    with extensions.using([path]):
        fatigue = EFFECTS.registry().load("fatigue")
    assert EFFECTS.registry().names == [n for n in EFFECTS.registry().names if n != "fatigue"]
    plain = Simulator(program).run({"x": vectors(3)})["y"]
    found = Simulator(program, engine=AnalogEngine((fatigue(0.5),))).run({"x": vectors(3)})["y"]
    np.testing.assert_allclose(found, plain / 2, rtol=1e-5)


def test_a_misspelt_effect_suggests_the_nearest(tmp_path):
    path = tmp_path / "fatigue.py"
    path.write_text(FATIGUE)
    with extensions.using([path]), pytest.raises(UsageError, match="did you mean 'fatigue'"):
        EFFECTS.registry().load("fatige")
