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
    assert settings.aligner.size_px is None


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
        ({"source": "demo"}, "config key 'source' must be a section, not 'demo'"),
        ({"source.fps": "inf"}, "config key 'source.fps': input should be a finite number"),
        ({"source.camera": "none"}, "config key 'source.camera'"),
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


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("source: {camera: true}", "config key 'source.camera': input should be a number, got True"),
        ("source: {fps: false}", "config key 'source.fps': input should be a number, got False"),
        ("source: {fps: .inf}", "config key 'source.fps': input should be a finite number, got inf"),
        ("source: {loop: 1}", "config key 'source.loop': input should be true or false, got 1"),
        ("wire: {control_port: true}", "config key 'wire.control_port': input should be a number, got True"),
        ("frames: 2.0", "config key 'frames': input should be a whole number, got 2.0"),
        ("person: 12", "config key 'person': input should be a valid string, got 12"),
        ("[" * 3000, "config file bad.yaml is nested too deeply"),
        ("source: " + "{a: " * 3000, "config file bad.yaml is nested too deeply"),
        ("person: 2024-13-45", "config file bad.yaml is not YAML: month must be in 1..12"),
        ("frames: " + "1" * 5000, "config file bad.yaml is not YAML: "),
        ("source: [demo]", "config key 'source' must be a section, not a list"),
    ],
    ids=lambda text: text[:30],
)
def test_values_of_another_kind_are_not_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text(content)
    with pytest.raises(ConfigError) as caught:
        config.load(Path("bad.yaml"), {})
    assert str(caught.value).startswith(says)


def test_what_yaml_and_flags_write_in_their_own_way(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("source:\n  # all defaults\nrecord: {video: off, root: sessions}\nadapt: off\nframes: none\n")
    assert config.load(file, {"record.root": "none"}) == config.Settings(adapt="off")
    assert config.load(file, {"source.width": "640"}).source.width == 640
    assert config.load(file, {"person": "none"}).person == "none"


def test_the_first_clusters_need_no_more_faces_than_can_be_held() -> None:
    few = config.load(None, {"clusters.capacity": "200"}).clusters
    assert few.first_faces == 200
    assert config.ClustersSettings.model_validate_json(few.model_dump_json()) == few
    assert config.load(None, {"clusters.capacity": 500, "clusters.first_faces": 500}).clusters.first_faces == 500
    with pytest.raises(ConfigError) as caught:
        config.load(None, {"clusters.capacity": "500", "clusters.first_faces": "501"})
    assert str(caught.value) == (
        "config key 'clusters.first_faces': expected clusters.capacity at most, which is 500, got '501'"
    )


@pytest.mark.parametrize("method", [None, "dbscan"])
def test_a_vocabulary_that_nothing_reads_is_refused(method: str | None) -> None:
    chosen = {} if method is None else {"clusters.method": method}
    with pytest.raises(
        ConfigError, match=rf"clusters\.method is {method or 'hdbscan'}, which takes none; set clusters"
    ):
        config.load(None, {**chosen, "clusters.vocabulary": "v.npz"})
    for used in ("vocabulary", "off"):
        config.load(None, {"clusters.method": used, "clusters.vocabulary": "v.npz"})


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        config.load(tmp_path / "none.yaml", {})


def test_credentials_stay_out_of_what_is_stored() -> None:
    for key, address in (("rtsp", "rtsp://user:my secret@cam/1"), ("path", "RTSP://user:secret@cam/1")):
        assert "secret" not in repr(config.public(config.load(None, {f"source.{key}": address})))


@pytest.mark.parametrize(
    "content",
    [
        "source: {address}",
        "source: [{address}]",
        "source:\n  rtsp: [{address}]",
        "source:\n  rtsp: {{a: '{address}'}}",
        "source:\n  kind: {address}",
        "source:\n  kind: '{address}'' and more@there'",
        "source:\n  rtsp: '{address}\n",
        "source:\n  rtsp: {address}: 1",
        "{address}: 1",
        "source: {{'{address}': 1}}",
        "!{address}",
    ],
)
def test_credentials_stay_out_of_errors(tmp_path: Path, content: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(content.format(address="rtsp://user:secret@cam/1"))
    for overrides in ({}, {"source.fps": "30"}):
        with pytest.raises(ConfigError) as caught:
            config.load(file, overrides)
        assert "secret" not in str(caught.value)
        assert "user" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_file_names_that_are_not_utf8_can_be_stored() -> None:
    public = config.public(config.load(None, {"source.path": "a\udcff.mp4", "record.root": "b\udcff"}))
    assert (public["source"]["path"], public["record"]["root"]) == ("a\\udcff.mp4", "b\\udcff")


@pytest.mark.parametrize("file", sorted((PROJECT / "configs").glob("*.yaml")), ids=lambda file: file.name)
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
