"""Colours and signs of clusters: the same for an id in each figure of each page."""

from __future__ import annotations

from psm_stream.report.markup import number

COLOURS = ("#cc6677", "#332288", "#ddb84d", "#117733", "#56b4e0", "#882255", "#44aa99", "#8a8a2b", "#aa4499")
"""Told apart by people with any colour vision. Source: P. Tol, "Colour schemes" (2021), scheme muted; its sand, cyan
and olive are a little darker here, since they mark thin lines on white."""
NOISE = "#b9b9b9"
HOLLOW = "#848484"
"""The outline of what is drawn hollow: frames while there were no clusters."""
ONE = "#7189a3"
"""Everything, where nothing is told apart."""
INK, QUIET, FAINT = "#222222", "#6b6b6b", "#dddddd"
BAD = "#b2182b"

_SIGNS = (
    "m-{r} 0a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0-{d} 0z",  # disc
    "m-{s}-{s}h{q}v{q}h-{q}z",  # square
    "m0-{t}l{t} {u}h-{q2}z",  # triangle
    "m0-{t}l{t} {t}l-{t} {t}l-{t}-{t}z",  # diamond
)


def colour_of(cluster: int) -> str:
    """Return an id's colour; ids 9 apart share one and differ in their sign."""
    return NOISE if cluster < 0 else COLOURS[cluster % len(COLOURS)]


def sign_of(cluster: int, size: float) -> str:
    """Return an id's sign as a path that begins where the pen is. size: px across a disc of the same weight."""
    kind = 0 if cluster < 0 else cluster // len(COLOURS) % len(_SIGNS)
    r = size / 2
    sizes = {"r": r, "d": size, "s": 0.88 * r, "q": 1.76 * r, "t": 1.2 * r, "u": 2.1 * r, "q2": 2.4 * r}
    return _SIGNS[kind].format(**{name: number(value) for name, value in sizes.items()})


def blend(share: float, colour: str = "#1f4e79") -> str:
    """Return white (0) to `colour` (1)."""
    full = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return "#" + "".join(f"{round(255 + (channel - 255) * share):02x}" for channel in full)
