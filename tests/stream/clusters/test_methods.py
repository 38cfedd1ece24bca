"""The contract of every clustering method, and of the table."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.stream.clusters.vocabularies import of_embeddings

from psm_stream.clusters.fit import Fit, Method
from psm_stream.clusters.methods import METHODS
from psm_stream.clusters.vocabulary import write_vocabulary
from psm_stream.config import ClustersSettings
from psm_stream.errors import ClusteringError

NAMES = sorted(METHODS)
FITTED_ONLINE = sorted(set(NAMES) - {"vocabulary"})


@pytest.fixture
def settings(tmp_path: Path) -> ClustersSettings:
    write_vocabulary(tmp_path / "words.npz", of_embeddings(min_count=0))
    file = tmp_path / "words.npz"
    return ClustersSettings(
        method="vocabulary", dimensions=4, min_cluster_size=10, min_samples=5, eps=0.8, vocabulary=file
    )


@pytest.fixture
def vectors(rng: np.random.Generator) -> np.ndarray:
    """Three clusters near centres of the vocabulary, and what is between."""
    centres = of_embeddings().centres[[1, 4, 7]]
    near = [centre + 0.1 * rng.normal(size=(60, 8)) for centre in centres]
    return np.concatenate([*near, 2 * rng.normal(size=(40, 8))]).astype(np.float32)


@pytest.fixture(params=NAMES)
def method(request: pytest.FixtureRequest) -> Method:
    return METHODS[request.param]


@pytest.fixture
def made(method: Method, vectors: np.ndarray, settings: ClustersSettings) -> Fit:
    return method.fit(vectors, settings)


def test_the_table_has_every_method_that_can_be_set() -> None:
    kinds = ClustersSettings.model_fields["method"].annotation.__args__  # type: ignore[union-attr]
    assert {*METHODS, "off"} == set(kinds)
    assert all(METHODS[name].name == name for name in METHODS)


def test_a_fit_is_labels_strengths_and_plain_arrays(method: Method, made: Fit, vectors: np.ndarray) -> None:
    assert made.labels.dtype == np.int32
    assert made.strengths.dtype == np.float32
    assert made.labels.shape == made.strengths.shape == (len(vectors),)
    assert made.labels.min() >= -1
    assert not np.any(made.strengths[made.labels == -1])
    assert made.strengths.min() >= 0
    assert made.strengths.max() <= 1
    assert all(isinstance(array, np.ndarray) and array.dtype.kind in "biuf" for array in made.fitted.values())
    assert method.takes(made.fitted) == "vector"


@pytest.mark.parametrize("name", FITTED_ONLINE)
def test_labels_have_no_gaps(name: str, vectors: np.ndarray, settings: ClustersSettings) -> None:
    labels = METHODS[name].fit(vectors, settings).labels
    assert set(labels.tolist()) == {-1, 0, 1, 2}


def test_two_fits_are_equal_to_the_bit(
    method: Method, made: Fit, vectors: np.ndarray, settings: ClustersSettings
) -> None:
    again = method.fit(vectors.copy(), settings)
    assert again.labels.tobytes() == made.labels.tobytes()
    assert again.strengths.tobytes() == made.strengths.tobytes()
    assert again.fitted.keys() == made.fitted.keys()
    for name, array in made.fitted.items():
        assert again.fitted[name].dtype == array.dtype
        assert again.fitted[name].tobytes() == array.tobytes()


def test_assigning_needs_the_arrays_alone(method: Method, made: Fit, vectors: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "fitted.npz", **made.fitted)
    with np.load(tmp_path / "fitted.npz", allow_pickle=False) as file:
        kept = {name: file[name] for name in file.files}
    for array in kept.values():
        array.setflags(write=False)
    one, other = method.assigner(made.fitted), method.assigner(kept)
    first = [one(vector) for vector in vectors]
    assert [other(vector) for vector in vectors[::-1]] == first[::-1]  # nor does the order matter


def test_what_is_assigned_is_plain_numbers_in_range(method: Method, made: Fit, rng: np.random.Generator) -> None:
    assign = method.assigner(made.fitted)
    for scale in (0.0, 0.5, 2.0, 1e3, 1e15):
        label, strength, outlier = assign((scale * rng.normal(size=8)).astype(np.float32))
        assert (type(label), type(strength), type(outlier)) == (int, float, float)
        assert -1 <= label < (20 if method.name == "vocabulary" else 3)
        assert 0 <= strength <= 1
        assert 0 <= outlier <= 1
        assert label >= 0 or strength == 0


def test_a_vector_that_is_not_finite_is_noise(method: Method, made: Fit) -> None:
    assign = method.assigner(made.fitted)
    for broken in (np.nan, np.inf, -np.inf):
        vector = np.zeros(8, np.float32)
        vector[3] = broken
        assert assign(vector) == (-1, 0.0, 1.0)


def test_what_was_fitted_falls_where_it_was(method: Method, made: Fit, vectors: np.ndarray) -> None:
    assign = method.assigner(made.fitted)
    falls = np.array([assign(vector)[0] for vector in vectors])
    assert np.mean(falls == made.labels) > 0.95  # HDBSCAN's own approximate_predict differs at the edges, too


def test_tokens_are_the_vocabulary_s(method: Method, made: Fit) -> None:
    tokens = method.tokens(made.fitted)
    assert (tokens is None) == (method.name != "vocabulary")


@pytest.mark.parametrize("name", FITTED_ONLINE)
def test_vectors_that_cannot_be_fitted_are_refused(name: str, vectors: np.ndarray, settings: ClustersSettings) -> None:
    vectors[[3, 5], 2] = np.nan, np.inf
    with pytest.raises(ClusteringError, match="2 of 220 vectors are not finite"):
        METHODS[name].fit(vectors, settings)
    for none in (vectors[:0], vectors[:, :0], vectors[0]):
        with pytest.raises(ClusteringError, match="at least one"):
            METHODS[name].fit(none, settings)


@pytest.mark.parametrize("name", FITTED_ONLINE)
def test_where_nothing_is_dense_everything_is_noise(name: str, rng: np.random.Generator) -> None:
    settings = ClustersSettings(min_cluster_size=10, min_samples=5, eps=1e-6)
    for count in (1, 2, 4, 5, 9, 10, 11):
        vectors = rng.normal(size=(count, 8)).astype(np.float32)
        made = METHODS[name].fit(vectors, settings)
        assert made.labels.tolist() == [-1] * count
        assert made.strengths.tolist() == [0.0] * count
        assert METHODS[name].assigner(made.fitted)(vectors[0]) == (-1, 0.0, 1.0)


def test_a_stream_that_sorts_faces_has_loaded_nothing_that_fits(tmp_path: Path) -> None:
    """What fits is a process apart; hdbscan and scikit-learn would take the stream a second and 100 MB."""
    options = ["--pace", "fast", "--frames", "60", "--control-port", "auto", "--adapt", "off", "--quiet"]
    options += ["--clusters.first_faces", "50", "--summary", str(tmp_path / "summary.json")]
    code = (
        "import sys; from psm_stream.cli.stream import main\n"
        f"assert main({options!r}) == 0\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules} & {'hdbscan', 'sklearn', 'scipy', 'joblib'}))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == ""
    clusters = json.loads((tmp_path / "summary.json").read_text())["clusters"]
    assert (clusters["method"], clusters["version"]) == ("hdbscan", 1)  # it did fit, elsewhere
