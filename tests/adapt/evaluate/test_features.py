"""Features of baselines, bundles, checkpoints and the authors' files."""

import cv2
import numpy as np
import pytest
import torch
from tests.adapt.evaluate.conftest import blendshapes_of, recorded

from psm_adapt.authors import write_authors
from psm_adapt.checkpoint import About, save_checkpoint
from psm_adapt.data.augment import plain
from psm_adapt.evaluate.clips import clips_of
from psm_adapt.evaluate.features import BASELINES, open_model
from psm_adapt.networks import Design, Networks, build_networks
from psm_stream.bundle import general_bundle, open_bundle
from psm_stream.encoder import open_encoder
from psm_stream.errors import AdaptationError, BundleError, CheckpointError, ConfigError

LIGHT = Design(generator="light", stem="learned", perceptual="none", init="he")


def ignored(frames: int) -> None:
    """Take progress."""


@pytest.fixture
def clip(make_store):
    landmarks = np.random.default_rng(0).random((4, 478, 2)).astype(np.float32)
    arrays = {"landmarks": landmarks, "blendshapes": blendshapes_of(4, 0)}
    return clips_of([make_store(recorded("a", "p", 4, **arrays))])[0].only(np.array([0, 2, 3]))


@pytest.fixture(scope="module")
def networks() -> Networks:
    return build_networks(LIGHT, 0)


def save(folder, networks, step=0):
    about = About(
        design=networks.design, stem="learned", perceptual="none", licence="MIT", created_by="test", step=step
    )
    return save_checkpoint(folder, networks, about)


def codes(networks: Networks, clip) -> np.ndarray:
    with torch.inference_mode():
        return networks.encoder.eval()(plain(clip.store.images(clip.rows))).numpy()


def test_baselines(clip):
    crops = clip.store.read(clip.rows)
    pixels = open_model("pixels").of(clip, ignored)
    expected = [cv2.resize(crop, (64, 64), interpolation=cv2.INTER_AREA).ravel() for crop in crops]
    np.testing.assert_array_equal(pixels, expected)
    assert open_model("pixels").components == 64
    landmarks = open_model("landmarks").of(clip, ignored)
    np.testing.assert_array_equal(landmarks[1], clip.store.landmarks[2].ravel())
    np.testing.assert_array_equal(open_model("blendshapes").of(clip, ignored), clip.store.blendshapes[clip.rows])
    for name in BASELINES:
        model = open_model(name)
        assert (model.name, model.kind, model.trained, model.networks) == (name, "baseline", None, None)


def test_the_shipped_bundle_as_on_the_live_path(clip):
    model = open_model("general")
    encoder = open_encoder(open_bundle(general_bundle()))
    expected = [encoder.encode(crop) for crop in clip.store.read(clip.rows)]
    np.testing.assert_array_equal(model.of(clip, ignored), expected)
    assert (model.kind, model.model_id, model.trained) == ("bundle", encoder.model_id, encoder.trained)
    assert open_model(str(general_bundle())).model_id == encoder.model_id


@pytest.mark.parametrize("step", [0, 7])
def test_a_checkpoint(tmp_path, clip, networks, step):
    about = save(tmp_path / "mine", networks, step)
    model = open_model(str(tmp_path / "mine"))
    assert (model.name, model.kind, model.model_id, model.trained) == ("mine", "checkpoint", about.model_id, step > 0)
    np.testing.assert_allclose(model.of(clip, ignored), codes(networks, clip), atol=1e-6)
    assert model.networks().design == LIGHT


def test_an_authors_file(tmp_path, clip):
    networks = build_networks(Design(stem="learned", perceptual="none", init="he"), 1)
    states = {name: part.state_dict() for name, part in networks.parts().items()}
    write_authors(tmp_path / "ExpCode_19.tar", states)
    model = open_model(f"theirs={tmp_path / 'ExpCode_19.tar'}")
    assert (model.name, model.kind) == ("theirs", "authors")
    np.testing.assert_allclose(model.of(clip, ignored), codes(networks, clip), atol=1e-6)
    assert sorted(model.networks().parts()) == ["encoder", "flow_decoder", "generator"]


@pytest.mark.parametrize("what", ["general", "pixels", "landmarks"])
def test_progress_counts_every_frame(clip, what):
    told = []
    open_model(what).of(clip, told.append)
    assert sum(told) == len(clip)


def test_names(tmp_path, networks):
    save(tmp_path / "a=b", networks)
    assert open_model("mine=pixels").name == "mine"
    assert open_model(str(tmp_path / "a=b")).name == "a=b"


def test_what_is_no_model(tmp_path):
    for what, message in (
        (tmp_path, "is neither an encoder bundle nor a checkpoint"),
        (tmp_path / "nowhere", "does not exist"),
        ("pixel", "does not exist; give a folder .* or one of general, pixels, landmarks, blendshapes"),
    ):
        with pytest.raises(ConfigError, match=message):
            open_model(str(what))


def test_damaged_models(tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle/manifest.json").write_text("{}")
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint/checkpoint.json").write_text("{}")
    (tmp_path / "file.tar").write_bytes(b"nothing")
    for name, error in (("bundle", BundleError), ("checkpoint", CheckpointError), ("file.tar", CheckpointError)):
        with pytest.raises(error):
            open_model(str(tmp_path / name))


def test_missing_landmarks_and_blendshapes(make_store):
    shapes = blendshapes_of(3, 0)
    shapes[1] = np.nan
    clip = clips_of([make_store(recorded("a", "p", 3, blendshapes=shapes), folder="some")])[0]
    with pytest.raises(AdaptationError, match="'a' has no landmarks in 3 of 3 frames; evaluate without"):
        open_model("landmarks").of(clip, ignored)
    with pytest.raises(AdaptationError, match="'a' has no blendshapes in 1 of 3 frames"):
        open_model("blendshapes").of(clip, ignored)
    bare = clips_of([make_store(recorded("a", "p", 3), folder="none")])[0]
    with pytest.raises(AdaptationError, match="has no blendshapes; make one with psm-adapt crops"):
        open_model("blendshapes").of(bare, ignored)
