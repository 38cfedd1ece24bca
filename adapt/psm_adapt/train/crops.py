"""The crop store that is trained on: opened, or made first from videos and images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from psm_adapt.config import DataSettings
from psm_adapt.data.gather import Outcome
from psm_adapt.data.ingest import IngestOptions, ingest
from psm_adapt.data.layouts import RecordingSource, sources_in
from psm_adapt.data.store import STORE, CropStore, open_store
from psm_adapt.train.progress import Teller
from psm_stream.errors import ConfigError
from psm_stream.record.session import INFO

MADE = "crops"
"""Folder beside the runs that stores are made in."""


def store_of(data: DataSettings, beside: Path, teller: Teller, processes: int) -> CropStore:
    """Open the store of `data.source`; where that is no store, make one beside the runs, or finish and reuse that.

    Raises ConfigError: no source is set, or several processes would have to make it. StoreError: it cannot be made.
    """
    if data.source is None:
        raise ConfigError("nothing to train on; give --data with a crop store or a folder of videos")
    if (data.source / STORE).is_file():
        return open_store(data.source)
    store = beside / MADE / _name_of(data)
    if processes > 1:
        if (store / STORE).is_file():
            return open_store(store)
        raise ConfigError(f"{data.source} is no crop store; make one first: psm-adapt crops {data.source} --out STORE")
    layout = data.layout if data.layout != "auto" else layout_of(data.source)
    sources = sources_in([data.source], layout)
    teller.say(f"making the crop store {store} of {data.source} (layout {layout})")
    return ingest(sources, store, IngestOptions(is_as_is=data.as_is), _Telling(teller)).store


def layout_of(source: Path) -> str:
    """Say how a folder or list is laid out, by what is in it."""
    if source.suffix.lower() == ".txt":
        return "voxceleb"  # the authors' lists of track folders
    if (source / "Videos_LeftCamera").is_dir() or any(source.glob("SN[0-9][0-9][0-9]/face_only_aligned")):
        return "disfa"
    if any(any(source.glob(f"{depth}{INFO}")) for depth in ("", "*/", "*/*/")):
        return "session"
    return "folder"


def _name_of(data: DataSettings) -> str:
    """Name a store by its source's name and where that is, so that two sources never share one."""
    where = f"{Path(str(data.source)).resolve()} {data.layout} {data.as_is}"
    return f"{Path(str(data.source)).resolve().name}-{hashlib.sha256(where.encode('utf-8', 'replace')).hexdigest()[:8]}"


class _Telling:
    """Tells how the making of a store goes, a line for each recording."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller

    def begin(self, sources: Sequence[RecordingSource], kept: int) -> None:
        """Say what there is to do."""
        self._teller.say(f"{len(sources)} recordings to look at, {kept} are there already")

    def progress(self, source: RecordingSource, looked_at: int, expected: int | None) -> None:
        """Say nothing: a line for each recording is enough."""

    def finish(self, source: RecordingSource, outcome: Outcome) -> None:
        """Say what became of a recording."""
        if outcome.trouble:
            self._teller.warn(f"{source.name}: {outcome.trouble}")
        else:
            self._teller.say(f"{source.name}: {outcome.count} crops of {outcome.looked_at} frames")

    def write(self) -> None:
        """Say nothing."""
