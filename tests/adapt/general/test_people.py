"""Who is trained on and who is held out."""

from pathlib import Path

import pytest

from psm_adapt.general.people import read_people, sources_of
from psm_stream.errors import ConfigError, StoreError

SHIPPED = Path(__file__).parents[3] / "configs" / "general" / "people.yaml"


def test_the_shipped_list_trains_on_nothing_but_mit_and_cc_by_videos() -> None:
    people = read_people(SHIPPED)
    trained = [video for videos in people.train.values() for video in videos]
    assert not [video for video in trained if "Pexels" in video or video.startswith("imm/")]
    assert not people.train.keys() & people.held_out.keys()
    assert not set(trained) & {video for videos in people.held_out.values() for video in videos}


def test_somebody_in_both_halves_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "people.yaml"
    file.write_text("train: {ann: [a.mp4]}\nheld_out: {ann: [b.mp4]}\n")
    with pytest.raises(ConfigError, match="'ann' is in train and held out"):
        read_people(file)


@pytest.mark.parametrize("text", ["train: {ann: []}\n", "train: {}\n", "train: {ann: [a]}\nothers: {}\n"])
def test_a_list_that_is_none_is_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "people.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        read_people(file)
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_sources_name_person_and_video(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    (source,) = sources_of({"ann": ["a.mp4"]}, tmp_path)
    assert (source.name, source.person, source.path) == ("ann/a", "ann", tmp_path / "a.mp4")
    with pytest.raises(StoreError, match=r"there is no video .*b\.mp4"):
        sources_of({"ann": ["b.mp4"]}, tmp_path)
