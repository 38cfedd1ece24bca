"""Names that the user gives to clusters: `L <cluster> <name>`."""

from __future__ import annotations

from psm_stream.clusters.sorter import Sorter
from psm_stream.errors import ConfigError
from psm_stream.values import NameCluster

LONGEST = 64
"""Characters of a name."""


def parse_name(text: str, sorter: Sorter) -> NameCluster:
    """Read "3 smile", or "3" to take the name away.

    Raises ConfigError: not a number, a cluster that there is not, or a name that is too long.
    """
    number, _, name = text.partition(" ")
    try:
        cluster = int(number)
    except ValueError:
        raise ConfigError(f"{number!r} is not the number of a cluster; send L <cluster> <name>") from None
    known = sorted(sorter.ids | sorter.names.keys())
    if cluster not in known:
        there = ", ".join(map(str, known[:40])) or "none yet"
        raise ConfigError(f"there is no cluster {cluster}; clusters so far: {there}")
    name = name.strip()
    if len(name) > LONGEST or not name.isprintable():
        raise ConfigError(f"a name has at most {LONGEST} characters, all of them printable")
    return NameCluster(cluster, name)
