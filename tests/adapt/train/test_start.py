"""What training starts from: new networks, checkpoints and the authors' files, and never the wrong ones silently."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.stream.people_models import worker_out

from psm_adapt.authors import write_authors
from psm_adapt.checkpoint import About, open_checkpoint, save_checkpoint
from psm_adapt.config import TrainSettings, load
from psm_adapt.general.shipped import general_checkpoint
from psm_adapt.networks.design import Design, Networks, build_networks
from psm_adapt.networks.vgg import Vgg19
from psm_adapt.train.start import start_of
from psm_stream.errors import CheckpointError, ConfigError
from psm_stream.people_keep import keep

Make = Callable[..., TrainSettings]
LIGHT = Design(generator="light", stem="learned", perceptual="none")
FAITHFUL = {"generator": "facecycle", "stem": "vgg19", "perceptual": "vgg19"}


@pytest.fixture(scope="module")
def vgg19(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of VGG19's shapes and random numbers."""
    path = tmp_path_factory.mktemp("vgg") / "vgg19.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(5)
        save_file(Vgg19().state_dict(), path)
    return path


def _with(settings: TrainSettings, **changes: object) -> TrainSettings:
    return settings.model_copy(update=changes)


def _equal(a: Networks, b: Networks) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_new_networks_come_from_the_seed(settings: Make) -> None:
    start = start_of(settings(run={"seed": 3}))
    assert _equal(start.networks, build_networks(LIGHT, seed=3))
    assert start.perceptual is None
    assert (start.stem, start.perceived, start.parent) == ("learned, from random weights", "none", None)


def test_the_published_design_has_vgg19_frozen_inside_and_says_whose(settings: Make, vgg19: Path) -> None:
    start = start_of(_with(settings(design=FAITHFUL), vgg19=vgg19))
    stored = Vgg19().state_dict()
    assert start.perceptual is not None
    assert {key: value.shape for key, value in start.perceptual.state_dict().items()} == {
        key: value.shape for key, value in stored.items()
    }
    stem = start.networks.generator.conv2_2[0]
    assert torch.equal(stem.weight, start.perceptual.state_dict()["conv2_2.0.weight"])
    assert not stem.weight.requires_grad
    assert start.stem == start.perceived
    assert start.stem.startswith("VGG19 of vgg19.safetensors, sha256 ")


def test_without_vgg19_the_published_design_is_refused(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ConfigError, match=r"no VGG19 weights.*set stem: learned and perceptual: random"):
        start_of(settings(design=FAITHFUL))


def test_transfer_takes_all_of_a_checkpoint_and_freezes_nothing(settings: Make, tmp_path: Path) -> None:
    before = build_networks(LIGHT, seed=9)
    about = About(design=LIGHT, stem="learned by Anna", perceptual="none", licence="MIT", created_by="a test")
    kept = save_checkpoint(tmp_path / "anna", before, about)
    start = start_of(_with(settings("psm_transfer"), start_from=tmp_path / "anna"))
    assert _equal(start.networks, before)
    assert all(parameter.requires_grad for parameter in start.networks.parameters())
    assert (start.stem, start.parent) == ("learned by Anna", kept.model_id)


def test_transfer_from_the_authors_file(settings: Make, tmp_path: Path, vgg19: Path) -> None:
    before = build_networks(Design(stem="learned"), seed=9)
    write_authors(
        tmp_path / "ExpCode_19.tar", {name: part.state_dict() for name, part in before.parts().items()}, "module."
    )
    chosen = _with(settings("gm_transfer", design=FAITHFUL), vgg19=vgg19, start_from=tmp_path / "ExpCode_19.tar")
    start = start_of(chosen)
    assert _equal(start.networks, before)
    assert start.stem == "VGG19, as every published file carries it: from ExpCode_19.tar"
    frozen = {name.split(".")[1] for name, p in start.networks.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1"}  # the stem, as published
    with pytest.raises(ConfigError, match=r"has generator facecycle, the settings say light; give --design\.generator"):
        start_of(_with(settings("gm_transfer"), start_from=tmp_path / "ExpCode_19.tar"))


def test_the_identity_stage_is_not_left_out_silently(settings: Make) -> None:
    with pytest.raises(ConfigError, match="the identity stage is not trained here"):
        start_of(settings(design={"identity": True}))


def test_transfer_needs_something_to_start_from(settings: Make, tmp_path: Path) -> None:
    for approach in ("psm_transfer", "gm_transfer"):
        with pytest.raises(ConfigError, match=f"{approach} needs start_from"):
            start_of(settings(approach))
    with pytest.raises(CheckpointError, match="is no checkpoint folder"):
        start_of(_with(settings("psm_transfer"), start_from=tmp_path / "nobody"))


def test_general_is_the_model_that_ships() -> None:
    design = {"design.generator": "light", "design.stem": "learned", "design.perceptual": "random"}
    start = start_of(load(None, {"approach": "psm_transfer", "start_from": "general", **design}))
    shipped = open_checkpoint(general_checkpoint())
    assert start.parent == shipped.about.model_id
    for name, tensor in shipped.tensors("encoder").items():
        assert torch.equal(start.networks.encoder.state_dict()[name], tensor)
    with pytest.raises(ConfigError, match=r"start_from .*general has generator light, the settings say facecycle"):
        start_of(load(None, {"approach": "psm_transfer", "start_from": "general", "design.perceptual": "none"}))


def test_a_person_is_named_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSM_HOME", str(tmp_path / "home"))
    keep("ada", worker_out(tmp_path / "out", "a" * 12, "b" * 12, general_checkpoint()))
    shipped = open_checkpoint(general_checkpoint())
    design = {"design.generator": "light", "design.stem": "learned", "design.perceptual": "random"}
    chosen = {"approach": "psm_transfer", **design}
    start = start_of(load(None, {**chosen, "start_from": "person:ada/001"}))
    assert start.parent == shipped.about.model_id
    assert torch.equal(start.networks.encoder.conv1[0].weight, shipped.tensors("encoder")["conv1.0.weight"])
    with pytest.raises(ConfigError, match="did you mean ada"):
        start_of(load(None, {**chosen, "start_from": "person:eda"}))
