"""The protocols that `--protocol` names. Adding one is a function and a line in `PROTOCOLS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from psm_adapt.evaluate import probing, viewing
from psm_adapt.evaluate.measures import Measure
from psm_adapt.evaluate.subject import Subject


@dataclass(frozen=True, slots=True)
class Protocol:
    """A way to evaluate. does: for people to read. needs_labels, needs_features: what the subject must have."""

    does: str
    measure: Callable[[Subject], list[Measure]]
    needs_labels: bool = True
    needs_features: bool = True


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        "probe": Protocol("probe scores, within a person blocked in time and across people", probing.probe),
        "person-dependent": Protocol(
            "the published probe of one person, and blocked in time", probing.person_dependent
        ),
        "person-independent": Protocol("the published probe across people, three folds", probing.person_independent),
        "retrieval": Protocol("nearest frames of other people by cosine", viewing.retrieval),
        "ranking": Protocol("order in time", viewing.ranking, needs_labels=False),
        "neutral": Protocol("distance of neutral faces", viewing.neutral, needs_labels=False, needs_features=False),
        "noise": Protocol("neutral faces of noise", viewing.noise, needs_labels=False, needs_features=False),
    }
)

GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"published": ("person-dependent", "person-independent"), "all": tuple(PROTOCOLS)}
)
"""Names for several protocols together."""
