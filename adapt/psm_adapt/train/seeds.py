"""Seeds of everything that is random while training: a function of where training is, so that no state need be kept."""

from __future__ import annotations

import numpy as np


def mixed_seed(*parts: int) -> int:
    """Mix numbers, such as (seed, epoch, step, rank), into a seed of 63 bits. Order matters."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
