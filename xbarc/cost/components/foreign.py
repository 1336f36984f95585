"""What plug-ins' components give, checked where it comes in: one line says whose fault it is."""

import math
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import Any, TypeVar, cast

from xbarc.cost.components.base import Component, Model, Role, Spec
from xbarc.hw.target import Target
from xbarc.support import plugins
from xbarc.support.errors import XbarcError

Function = TypeVar("Function", bound=Callable[..., Any])

AMOUNT = "a finite number, 0 at least"


def checked_model(build: Model, whose: str) -> Model:
    """The model, which raises `XbarcError` where it fails or gives no figures; `whose` it is."""

    def checked(spec: Spec) -> Component:
        return _unit(_called(build, whose, spec), whose)

    return checked


def checked_role(role: Role, whose: str) -> Role:
    """The role, whose functions raise `XbarcError` where they fail or count nonsense."""
    return replace(
        role,
        counts={level: _amount(f, f"{whose}: counts") for level, f in role.counts.items()},
        actions=_amount(role.actions, f"{whose}: actions"),
        steps={name: _amount(f, f"{whose}: steps") for name, f in role.steps.items()},
        adapted=role.adapted and partial(_adapted, role.adapted, f"{whose}: adapted"),
    )


def fault(found: Component) -> str | None:
    """What is wrong with a unit's figures, None where nothing is."""
    for field in fields(found):
        value = getattr(found, field.name)
        if field.name == "source":
            if not isinstance(value, str) or not value.strip():
                return "no source: say where its figures come from"
        elif value is not None and not _is_amount(value):
            return f"{field.name} = {value!r}: {AMOUNT}"
    for name in ("area_um2", "energy_pj"):
        if getattr(found, name) is None:
            return f"{name} = None: {AMOUNT}"
    return None


def _adapted(
    change: Callable[[Component, Target], Component], whose: str, unit: Component, target: Target
) -> Component:
    return _unit(_called(change, whose, unit, target), whose)


def _unit(found: Any, whose: str) -> Component:
    if not isinstance(found, Component):
        raise XbarcError(f"{whose} gave {found!r}, not a Component")
    wrong = fault(found)
    if wrong is not None:
        raise XbarcError(f"{whose} gave {wrong}")
    return found


def _amount(function: Function, whose: str) -> Function:
    def counted(*arguments: Any) -> Any:
        found = _called(function, whose, *arguments)
        if not _is_amount(found):
            raise XbarcError(f"{whose} gave {found!r}: {AMOUNT}")
        return found

    return cast(Function, counted)


def _is_amount(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    try:
        return math.isfinite(value) and value >= 0
    except (TypeError, ValueError):
        return False


def _called(function: Callable[..., Any], whose: str, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except XbarcError:
        raise
    except Exception as error:
        raise XbarcError(f"{whose} failed: {plugins.cause(error)}") from error
