"""A snapshot of the demo's moving face, as the live path would write it."""

from pathlib import Path

import numpy as np
import pytest

from psm_stream.align import open_aligner
from psm_stream.config import AlignerSettings, FacesSettings, SourceSettings
from psm_stream.faces import RecentFaces
from psm_stream.sources.demo import DemoSource
from psm_stream.values import Faces, Frame, Stamp

FACES = 48


@pytest.fixture(scope="session")
def demo_snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 faces of one person, four a second."""
    path = tmp_path_factory.mktemp("snapshot") / "snapshot.npz"
    source = DemoSource(SourceSettings(kind="demo", pace="fast", fps=4), lambda: 0.0)
    aligner = open_aligner(AlignerSettings())
    recent = RecentFaces(FacesSettings(min_change=0.0), 128)
    source.open()
    index = 0
    while len(recent) < FACES:
        seen = aligner(Frame(Stamp(index, index / 4), np.asarray(source.read().image)))
        if isinstance(seen, Faces):
            recent.offer(seen.faces[0])
        index += 1
    source.close()
    aligner.close()
    return recent.snapshot(path).result(30)
