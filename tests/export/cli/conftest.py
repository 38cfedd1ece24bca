"""A whole bundle of drawn weights, made without looking for faces."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from psm_export.crops import photograph
from psm_export.making import Candidate, make_bundle
from psm_export.model import Model
from psm_export.parity.check import make_check, to_bytes
from psm_export.parity.gate import hold, yardstick
from psm_export.sources.drawn import drawn
from psm_stream.testing import edit_manifest


@pytest.fixture(scope="session")
def model() -> Model:
    return drawn("facecycle-expression-encoder", 7)


@pytest.fixture(scope="session")
def made(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    graph = model.build()
    crops = np.concatenate([photograph(), photograph(mirrored=True)])
    parity = hold(yardstick(model, crops, "a photograph"), graph, "fp32").parity
    folder = tmp_path_factory.mktemp("made") / "bundle"
    make_bundle(folder, model, Candidate("fp32", graph, parity, to_bytes(make_check(model, graph))), "drawn")
    return folder


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    """A copy, to be spoilt."""
    return Path(shutil.copytree(made, tmp_path / "bundle"))


@pytest.fixture
def replace(bundle: Path) -> Callable[[str, bytes], None]:
    """Put another file in a bundle's, and its digest into the manifest: what no digest can find."""

    def put(name: str, content: bytes) -> None:
        (bundle / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        edit_manifest(bundle, lambda tree: tree["files"].update({name: digest}))

    return put
