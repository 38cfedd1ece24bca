"""Training settings: the published values, and what is said of wrong ones."""

from pathlib import Path

import pytest

from psm_adapt import config
from psm_stream.errors import ConfigError

PROJECT = Path(__file__).resolve().parents[2]
APPROACHES = ("psm", "psm_transfer", "psm_ctl", "gm", "gm_transfer", "gm_ctl")


@pytest.mark.parametrize("approach", APPROACHES)
def test_each_published_approach_has_a_config_with_the_published_values(approach: str) -> None:
    settings = config.load(PROJECT / f"configs/train/{approach}.yaml", {})
    assert settings.approach == approach
    assert settings.out == Path("runs") / approach
    assert (settings.run.epochs, settings.run.batch_size) == (17, 16)
    assert (settings.optimiser.schedule, settings.optimiser.lr, settings.optimiser.min_lr) == ("psm", 8e-5, 5e-6)
    assert (settings.optimiser.beta1, settings.optimiser.beta2) == (0.5, 0.999)
    assert settings.optimiser.weight_decay == 0
    assert settings.optimiser.clip_norm is None
    assert settings.loss.neutral_weight is None
    assert (settings.loss.perceptual, settings.loss.pixel, settings.loss.symmetry, settings.loss.ssim) == (
        0.01,
        1,
        1.5,
        5,
    )
    assert (settings.pairs.seed, settings.pairs.per_track) == (912, 450)
    design = settings.design
    assert (design.generator, design.stem, design.perceptual, design.init) == (
        "facecycle",
        "vgg19",
        "vgg19",
        "published",
    )


def test_every_config_of_training_is_one_of_these() -> None:
    assert {file.stem for file in (PROJECT / "configs/train").glob("*.yaml")} == set(APPROACHES)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"run.epoch": "3"}, "unknown config key 'run.epoch'; did you mean 'run.epochs'?"),
        ({"optimizer.lr": "1"}, "unknown config key 'optimizer'; did you mean 'optimiser'?"),
        ({"design.generater": "light"}, "unknown config key 'design.generater'; did you mean 'design.generator'?"),
        ({"design.generator": "heavy"}, "config key 'design.generator': input should be 'facecycle' or 'light'"),
        ({"approach": "psm_wctl"}, "config key 'approach': input should be 'psm', 'psm_transfer'"),
        ({"run.epochs": "0"}, "config key 'run.epochs'"),
        ({"run.epochs": "2.5"}, "config key 'run.epochs'"),
        ({"loss.neutral_weight": [1, 2, 3]}, "config key 'loss.neutral_weight'"),
        ({"loss.neutral_weight": "1,-1"}, "config key 'loss.neutral_weight'"),
        ({"loss.neutral_weight": "high"}, "config key 'loss.neutral_weight'"),
        ({"data.people": []}, "config key 'data.people'"),
        ({"optimiser.lr": "nan"}, "config key 'optimiser.lr'"),
        ({"run": "fast"}, "config key 'run' must be a section, not 'fast'"),
    ],
)
def test_wrong_keys_and_values_are_named_in_one_line(overrides: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(None, overrides)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


def test_a_design_that_cannot_be_is_one_line() -> None:
    with pytest.raises(ConfigError, match="light has no VGG19 stem; set stem: learned") as caught:
        config.load(None, {"design.generator": "light"})
    assert "\n" not in str(caught.value)


def test_flags_are_read_as_their_settings_kind() -> None:
    settings = config.load(None, {"data.people": "anna, ben", "optimiser.lr": "1e-4", "pairs.redraw": "true"})
    assert (settings.data.people, settings.optimiser.lr, settings.pairs.redraw) == (["anna", "ben"], 1e-4, True)
    assert config.load(None, {"loss.neutral_weight": "none"}).loss.neutral_weight is None
    assert config.load(None, {"loss.neutral_weight": "[1, 0.1]"}).loss.neutral_weight == [1.0, 0.1]
    assert config.load(None, {"loss.neutral_weight": "0.5"}).loss.neutral_weight == [0.5]


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    settings = config.load(None, {"approach": "gm", "loss.neutral_weight": [1, 0.1], "optimiser.lr": 1e-5})
    (tmp_path / "settings.json").write_text(settings.model_dump_json())
    assert config.load(tmp_path / "settings.json", {}) == settings


def test_every_setting_is_documented_with_its_default() -> None:
    document = (PROJECT / "docs/training.md").read_text(encoding="utf-8")
    defaults = config.TrainSettings().model_dump(mode="json")
    for key in config.dotted_keys():
        value = defaults
        for part in key.split("."):
            value = value[part]
        shown = "none" if value is None else ", ".join(value) if isinstance(value, list) else f"{value}"
        assert f"| `{key}` | {shown} |" in document, key
