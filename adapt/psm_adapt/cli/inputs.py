"""INPUTs of a command that looks at crops: stores that are there, and one made of everything else."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from psm_adapt.cli.evaluate_progress import Show
from psm_adapt.data.ingest import IngestOptions, ingest
from psm_adapt.data.layouts import LAYOUTS, sources_in
from psm_adapt.data.store import STORE, CropStore, open_store
from psm_stream.cli.common import nearest
from psm_stream.errors import ConfigError

_CROPS = "crops"


@contextmanager
def stores_of(
    inputs: Sequence[str], layout: str, options: IngestOptions, keep: Path | None, show: Show
) -> Iterator[list[CropStore]]:
    """Open the stores among the inputs, and make one of the rest, in KEEP/crops or for as long as this runs.

    Raises ConfigError: an unknown layout. Raises AdaptationError: an input cannot be used.
    """
    places = [Path(place) for place in inputs]
    stores = [open_store(place) for place in places if (place / STORE).is_file()]
    rest = [place for place in places if not (place / STORE).is_file()]
    if not rest:
        yield stores
        return
    if layout not in LAYOUTS:
        raise ConfigError(f"--layout {layout!r}{nearest(layout, list(LAYOUTS))}")
    sources = sources_in(rest, layout)
    with tempfile.TemporaryDirectory(prefix="psm-adapt-") as passing:
        folder = (Path(passing) if keep is None else keep) / _CROPS
        yield [*stores, ingest(sources, folder, options, show.of_crops()).store]
