"""Settings by the names of layers, as Python gives them: target keys, and a mapping."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, cast

from xdsl.passes import ModulePass
from xdsl.utils.arg_spec import ArgSpec

from xbarc.pipeline import MappingScheme, Registry, build_pass, schemes
from xbarc.pipeline.options import parse_specs
from xbarc.support.errors import UsageError, nearest

MAPPING = "mapping"
"""The setting that isn't a key of the target: a mapping pass."""

ByLayer = Mapping[str, Mapping[str, Any]]
"""Name or pattern -> setting -> value: `{"conv*": {"adc.bits": 6, "mapping": "kernel-first"}}`."""


@dataclass(frozen=True)
class LayerSettings:
    """Settings by layer, read: `overrides` as `--set` has them, `mappings` by name or pattern."""

    overrides: tuple[str, ...] = ()
    mappings: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, layers: ByLayer) -> "LayerSettings":
        """Raises `UsageError` where a layer has anything but settings by name."""
        if not isinstance(layers, Mapping):
            raise UsageError(f"layers are settings by name or pattern, not {layers!r:.80}")
        overrides, mappings = [], []
        for name, settings in layers.items():
            if not isinstance(settings, Mapping) or not settings:
                raise UsageError(
                    f"layers: {name!r} has settings by name, as {{'adc.bits': 6}}, not {settings!r}"
                )
            for key, value in settings.items():
                if key == MAPPING:
                    mappings.append((name, str(value)))
                else:
                    overrides.append(f'layers."{name}".{key}={value}')
        return cls(tuple(overrides), tuple(mappings))

    def passes(self, registry: Registry) -> list[ModulePass]:
        """A mapping pass for each of `mappings`; those of later names come first, so they hold.

        Raises `UsageError` where one is no mapping pass, or names its layers itself.
        """
        found = []
        for index, (name, text) in reversed(list(enumerate(self.mappings))):
            # A later pattern may leave nothing: that isn't a name that no layer has.
            if any(fnmatchcase(name, later) for later, _ in self.mappings[index + 1 :]):
                continue
            known, specs = schemes(registry), parse_specs(text, f"the mapping of {name!r}", "")
            if len(specs) != 1 or specs[0].name not in known:
                raise UsageError(
                    f"layers: {text!r} of {name!r} is no mapping: {nearest(text, known)}"
                )
            if "layers" in specs[0].parameters:
                raise UsageError(
                    f"layers: {text!r} of {name!r} names layers itself: leave them out"
                )
            spec = ArgSpec(specs[0].name, {**specs[0].parameters, "layers": (name,)})
            cls = cast(type[MappingScheme], registry.load(spec.name))
            found.append(cast(ModulePass, build_pass(cls, spec)))
        return found
