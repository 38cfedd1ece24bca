"""What a conversion gives, and whom it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import onnx

Tell: TypeAlias = Callable[[int, int, str], None]
"""Is told (steps done, steps, what is being done)."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A graph of some precision. float_nodes: layers that an int8 graph keeps in float, in order."""

    graph: onnx.ModelProto
    float_nodes: tuple[str, ...] = ()
