"""Settings: where they come from, and what is said of wrong ones."""

from pathlib import Path

import pytest

from psm_stream import config
from psm_stream.errors import ConfigError

PROJECT = Path(__file__).resolve().parents[2]


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("source:\n  pace: fast\n  fps: 15\nperson: anna\n")
    settings = config.load(file, {"source.fps": "20"})
    assert (settings.source.pace, settings.source.fps, settings.person) == ("fast", 20.0, "anna")
    assert settings.aligner.size_px == 128


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"source.pce": "fast"}, "unknown config key 'source.pce'; did you mean 'source.pace'?"),
        ({"sorce.pace": "fast"}, "unknown config key 'sorce'; did you mean 'source'?"),
        ({"source.pace": "slow"}, "config key 'source.pace': input should be 'live' or 'fast', got 'slow'"),
        ({"wire.control_port": "99999"}, "config key 'wire.control_port'"),
        ({"wire.control_port": "autox"}, "config key 'wire.control_port'"),
        ({"frames": "0"}, "config key 'frames'"),
        ({"frames": "many"}, "config key 'frames'"),
        ({"person": "../../etc"}, "config key 'person'"),
        ({"aligner.size_px": "1.5"}, "config key 'aligner.size_px'"),
        ({"source": "demo"}, "config key 'source'"),
    ],
)
def test_wrong_keys_and_values_are_named_in_one_line(overrides: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(None, overrides)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "content", [b"a: [", b"- 1\n- 2\n", b"\xff\xfe\x00", b"!!python/object/apply:os.system ['true']"]
)
def test_bad_files_are_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"bad\.yaml") as caught:
        config.load(file, {})
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        config.load(tmp_path / "none.yaml", {})


def test_credentials_stay_out_of_what_is_stored() -> None:
    settings = config.load(None, {"source.kind": "rtsp", "source.rtsp": "rtsp://user:secret@cam/1"})
    assert "secret" not in repr(config.public(settings))


@pytest.mark.parametrize("file", sorted((PROJECT / "configs").rglob("*.yaml")), ids=lambda file: file.name)
def test_every_shipped_config_loads(file: Path) -> None:
    config.load(file, {})


def test_every_setting_is_documented_with_its_default() -> None:
    document = (PROJECT / "docs/settings.md").read_text(encoding="utf-8")
    for key in config.dotted_keys():
        value = config.Settings().model_dump()
        for part in key.split("."):
            value = value[part]
        shown = "none" if value is None else "empty" if value == "" else value
        assert f"| `{key}` | {shown} |" in document
