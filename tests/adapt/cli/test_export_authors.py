"""psm-adapt export-authors: the authors' format and back without losing a bit, or the reason why not."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from psm_adapt.authors import EXPRESSION, NETWORKS, OURS, read_authors
from psm_adapt.checkpoint import About, open_checkpoint, save_checkpoint
from psm_adapt.cli.export_authors import job
from psm_adapt.cli.import_ import job as import_job
from psm_adapt.networks.design import Design, Networks, build_networks
from psm_stream.errors import CheckpointError, ConfigError

FULL = Design(stem="learned", perceptual="random", identity=True)


@pytest.fixture(scope="module")
def networks() -> Networks:
    return build_networks(FULL, seed=3)


@pytest.fixture(scope="module")
def checkpoint(networks: Networks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("authors") / "checkpoint"
    said = {"licence": "CC BY 4.0", "person": "ada", "epoch": 4, "step": 50, "training": {"seed": 3}}
    save_checkpoint(folder, networks, About(design=FULL, stem="learned", perceptual="random", created_by="us", **said))
    return folder


def test_there_and_back_is_equal_in_every_bit_and_word(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert job([str(checkpoint), "--out", str(tmp_path / "a.tar")]) == 0
    assert "stem is learned, not VGG19's" in capsys.readouterr().out
    assert import_job([str(tmp_path / "a.tar"), "--out", str(tmp_path / "back")]) == 0
    assert "epoch 4, person ada, licence CC BY 4.0" in capsys.readouterr().out
    there, back = open_checkpoint(checkpoint), open_checkpoint(tmp_path / "back")
    assert back.about == there.about  # with the digests of every file


def test_the_authors_programs_find_what_they_look_for(checkpoint: Path, networks: Networks, tmp_path: Path) -> None:
    options = ["--out", str(tmp_path / "new" / "a.tar"), "--module-prefix", "--expression-only"]
    assert job([str(checkpoint), *options]) == 0
    saved = torch.load(tmp_path / "new" / "a.tar", weights_only=True)
    assert list(saved) == [*EXPRESSION, OURS]
    for theirs in EXPRESSION:
        ours = getattr(networks, NETWORKS[theirs]).state_dict()
        assert list(saved[theirs]) == [f"module.{key}" for key in ours]
        torch.nn.DataParallel(getattr(networks, NETWORKS[theirs])).load_state_dict(saved[theirs])
    assert import_job([str(tmp_path / "new" / "a.tar"), "--out", str(tmp_path / "back")]) == 0
    assert not open_checkpoint(tmp_path / "back").design.identity


def test_a_light_generator_has_no_place_in_their_format(tmp_path: Path) -> None:
    design = Design(generator="light", stem="learned", perceptual="none")
    about = About(design=design, stem="learned", perceptual="none", licence="MIT", created_by="a test")
    save_checkpoint(tmp_path / "light", build_networks(design, seed=0), about)
    with pytest.raises(CheckpointError, match="generator 'light', which the authors' format lacks; psm-export"):
        job([str(tmp_path / "light"), "--out", str(tmp_path / "a.tar")])
    assert not (tmp_path / "a.tar").exists()


def test_bad_arguments(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint folder"):
        job([str(tmp_path / "nowhere"), "--out", str(tmp_path / "a.tar")])
    (tmp_path / "a.tar").write_text("mine")
    with pytest.raises(CheckpointError, match="never written over"):
        job([str(checkpoint), "--out", str(tmp_path / "a.tar")])
    with pytest.raises(ConfigError, match="did you mean --module-prefix"):
        job([str(checkpoint), "--out", str(tmp_path / "b.tar"), "--module"])


def test_escapes_of_a_terminal_do_not_reach_it(
    checkpoint: Path, tmp_path: Path, edited: Callable[[Path, dict[str, object]], Path]
) -> None:
    assert job([str(checkpoint), "--out", str(tmp_path / "a.tar"), "--expression-only"]) == 0
    path = edited(tmp_path / "a.tar", {"licence": "MIT\x1b[2J"})
    with pytest.raises(CheckpointError, match="not what this version writes"):
        import_job([str(path), "--out", str(tmp_path / "back")])
    assert read_authors(path).about is not None


@pytest.fixture
def edited() -> Callable[[Path, dict[str, object]], Path]:
    """Change what a file that we wrote says of itself."""

    def edit(path: Path, changes: dict[str, object]) -> Path:
        saved = torch.load(path, weights_only=True)
        saved[OURS] = About.model_validate_json(saved[OURS]).model_copy(update=changes).model_dump_json(by_alias=True)
        torch.save(saved, path)
        return path

    return edit
