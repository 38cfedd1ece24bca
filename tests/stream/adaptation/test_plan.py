"""Whether a run adapts, and what it says of it."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from psm_stream.adaptation import plan as plans
from psm_stream.adaptation.plan import Plan, make_plan
from psm_stream.adaptation.words import intention
from psm_stream.bundle import EncoderBundle, general_bundle, open_bundle
from psm_stream.config import Settings, load
from psm_stream.errors import ConfigError
from psm_stream.testing import edit_manifest

GENERAL = open_bundle(general_bundle())


def settings(**given: str) -> Settings:
    return load(None, {key.replace("__", "."): value for key, value in given.items()})


@pytest.fixture
def foreign(tmp_path: Path) -> EncoderBundle:
    """A model whose weights nobody has."""
    folder = Path(shutil.copytree(general_bundle(), tmp_path / "foreign"))
    edit_manifest(folder, lambda tree: tree.update(model_id="0" * 12))
    return open_bundle(folder)


def test_auto_where_it_can_run_and_the_source_keeps_its_time() -> None:
    assert make_plan(settings(), GENERAL, True).mode == "auto"
    assert make_plan(settings(), GENERAL, False).mode == "off"
    assert make_plan(settings(adapt="auto"), GENERAL, False).mode == "auto"
    assert make_plan(settings(adapt="manual"), GENERAL, True).mode == "manual"
    assert make_plan(settings(adapt="off"), GENERAL, True).mode == "off"


def test_without_what_training_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "EXTRA", ("torch_that_is_not_there", "numpy"))
    plan = make_plan(settings(), GENERAL, True)
    assert plan.mode == "off"
    assert plan.why == "torch_that_is_not_there is not installed; pip install 'psm-stream[adapt]'"
    assert make_plan(settings(adapt="off"), GENERAL, True).mode == "off"
    with pytest.raises(ConfigError, match=r"--adapt auto: torch_that_is_not_there is not installed.*--adapt off"):
        make_plan(settings(adapt="auto"), GENERAL, True)


def test_a_model_without_its_weights_cannot_be_trained_on(foreign: EncoderBundle) -> None:
    assert make_plan(settings(), foreign, True).mode == "off"
    with pytest.raises(ConfigError, match=r"the weights of .*foreign are not there"):
        make_plan(settings(adapt="manual"), foreign, True)


@pytest.mark.parametrize("mode", [{}, {"adapt": "auto"}, {"adapt": "manual"}])
def test_a_recipe_that_is_not_there_is_known_at_the_start(mode: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"adaptation.recipe papr: no such file; did you mean paper\?"):
        make_plan(settings(**mode, adaptation__recipe="papr"), GENERAL, True)
    assert make_plan(settings(**mode, adaptation__recipe="paper_ctl"), GENERAL, True).mode != "off"
    assert make_plan(settings(adapt="off", adaptation__recipe="papr"), GENERAL, True).mode == "off"


def test_a_model_of_another_template_cannot_be_trained_on() -> None:
    """Everything that trains does so on crops by our own; those of this run are others."""
    alignment = GENERAL.manifest.alignment.model_copy(update={"template": "wide", "eye_distance": 0.25})
    wide = replace(GENERAL, manifest=GENERAL.manifest.model_copy(update={"alignment": alignment}))
    plan = make_plan(settings(), wide, True)
    assert plan.mode == "off"
    assert plan.why.startswith("what is learned from are crops by eyes-level-1, and this encoder wants wide (eyes 0.25")
    with pytest.raises(ConfigError, match="--adapt auto: what is learned from are crops by eyes-level-1"):
        make_plan(settings(adapt="auto"), wide, True)


def test_crops_of_another_size_cannot_be_trained_on() -> None:
    assert make_plan(settings(aligner__size_px=64), GENERAL, True).mode == "auto"
    plan = make_plan(settings(aligner__size_px=256), GENERAL, True)
    assert (plan.mode, plan.why.partition(";")[0]) == (
        "off",
        "what is learned from are crops of 128 px, and this run's are 256 px",
    )
    with pytest.raises(ConfigError, match=r"--adapt auto: .* set aligner\.size_px 128"):
        make_plan(settings(adapt="auto", aligner__size_px=256), GENERAL, True)


def test_a_device_that_is_not_there_is_known_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "has_nvidia_driver", lambda: False)
    plan = make_plan(settings(adaptation__device="cuda"), GENERAL, True)
    assert (plan.mode, plan.why.partition(";")[0]) == (
        "off",
        "adaptation.device cuda: no NVIDIA driver on this machine",
    )
    for mode in ("auto", "manual"):
        with pytest.raises(ConfigError, match=f"--adapt {mode}: adaptation.device cuda: no NVIDIA driver"):
            make_plan(settings(adapt=mode, adaptation__device="cuda"), GENERAL, True)
    monkeypatch.setattr(plans, "has_nvidia_driver", lambda: True)
    assert make_plan(settings(adaptation__device="cuda"), GENERAL, True).mode == "auto"


def test_a_home_that_cannot_be_written_is_known_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("PSM_HOME", str(home))
    assert make_plan(settings(person="ada"), GENERAL, True).mode == "auto"
    assert not home.exists()
    home.write_text("a file")
    plan = make_plan(settings(), GENERAL, True)
    assert (plan.mode, plan.why) == (
        "off", f"{home / 'work'} cannot be made, since {home} is no folder; let PSM_HOME name another"
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"--adapt manual: .* is no folder"):
        make_plan(settings(adapt="manual"), GENERAL, True)
    home.unlink()
    (home / "people").mkdir(parents=True)
    (home / "people" / "ada").write_text("a file")
    assert make_plan(settings(), GENERAL, True).mode == "auto"
    assert make_plan(settings(person="ada"), GENERAL, True).mode == "off"


def test_the_banner_says_it() -> None:
    assert intention(Plan("off", "as asked"), settings()) == "adaptation off: as asked"
    manual = intention(Plan("manual", ""), settings(adaptation__recipe="paper"))
    assert manual == "adaptation when C asks for it, by recipe paper"
    assert intention(Plan("auto", ""), settings()) == (
        "adaptation as soon as 500 faces are there, then every 600 s or when the embeddings have drifted, by "
        "recipe auto: gpu where torch finds CUDA, else cpu"
    )
