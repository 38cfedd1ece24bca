"""The manifest of somebody's own model: read strictly, and its numbers mean what the docs say."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.export.own_models import crops, manifest

from psm_export.sources.own_manifest import alignment_of, find_manifest, read_expected, read_own_manifest
from psm_stream.errors import ConfigError


def written(folder: Path, **changes: Any) -> Path:
    (folder / "m.yaml").write_text(yaml.safe_dump(manifest(**changes)), encoding="utf-8")
    return folder / "m.yaml"


@pytest.mark.parametrize(("span", "black", "white"), [("0..255", 0.0, 255.0), ("0..1", 0.0, 1.0), ("-1..1", -1.0, 1.0)])
def test_ranges_with_mean_and_deviation(tmp_path: Path, span: str, black: float, white: float) -> None:
    mean, deviation = [0.1, 0.2, 0.3], [0.5, 2.0, 4.0]
    path = written(tmp_path, input__range=span, input__mean=mean, input__deviation=deviation, input__colour="BGR")
    picture = np.zeros((1, 1, 2, 3), np.uint8)
    picture[0, 0, 1] = (255, 0, 0)  # red
    given = read_own_manifest(path).input.pixels().of(picture)
    blue, green, red = given[0, :, 0, 1]
    np.testing.assert_allclose(blue, (black - 0.1) / 0.5, rtol=1e-5)
    np.testing.assert_allclose(green, (black - 0.2) / 2, rtol=1e-5)
    np.testing.assert_allclose(red, (white - 0.3) / 4, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"licens": "MIT"}, "unknown config key 'licens'; did you mean 'licence'"),
        ({"input__color": "RGB"}, "unknown config key 'input.color'; did you mean 'input.colour'"),
        ({"input__range": "0-1"}, r"'input.range': input should be '0..255', '0..1' or '-1..1'"),
        ({"input__size_px": 2000}, "input.size_px"),
        ({"input__deviation": [1, 0, 1]}, "deviation must not be 0"),
        ({"input__dtype": "uint8"}, "dtype uint8 goes with range 0..255"),
        ({"output": {}}, "output.dimension"),
        ({"alignment__eye_distance": 2}, "alignment.eye_distance"),
        ({"input__mean": [0, float("nan"), 0]}, "input.mean"),
        ({"trained": 1}, "trained"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        read_own_manifest(written(tmp_path, **changes))
    assert "m.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_it_is_found_beside_the_model(tmp_path: Path) -> None:
    model = tmp_path / "mine.onnx"
    with pytest.raises(ConfigError, match=r"no manifest lies beside it; write mine\.yaml"):
        find_manifest(model, None)
    (tmp_path / "mine.json").write_text("{}")
    assert find_manifest(model, None) == tmp_path / "mine.json"
    (tmp_path / "mine.yaml").write_text("{}")
    with pytest.raises(ConfigError, match="2 manifests lie beside it"):
        find_manifest(model, None)
    assert find_manifest(model, tmp_path / "other.yml") == tmp_path / "other.yml"


def test_alignment_is_ours_where_none_is_asked_for(tmp_path: Path) -> None:
    tree = manifest(input__size_px=256)
    tree.pop("alignment")
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(tree))
    ours = alignment_of(read_own_manifest(tmp_path / "m.yaml"))
    assert (ours.template, ours.crop_px, ours.eye_distance, ours.eye_line_y) == ("eyes-level-1", 256, 0.38, 0.34)
    own = alignment_of(read_own_manifest(written(tmp_path, alignment__crop_px=8)))
    assert (own.template, own.crop_px, own.eye_distance) == ("own", 16, 0.4)  # never smaller than the input


def test_expected_embeddings_are_read_and_checked(tmp_path: Path) -> None:
    path = written(tmp_path, check="check.npz")
    said = read_own_manifest(path)
    assert read_expected(path, read_own_manifest(written(tmp_path))) is None
    with pytest.raises(ConfigError, match="cannot be read"):
        read_expected(path, said)
    np.savez(tmp_path / "check.npz", crops=crops(2), embeddings=np.ones((2, 5)))
    expected = read_expected(path, said)
    assert expected is not None
    np.testing.assert_array_equal(expected[0], crops(2))
    assert expected[1].dtype == np.float32
    np.savez(tmp_path / "check.npz", crops=crops(2), embeddings=np.ones((2, 4)))
    with pytest.raises(ConfigError, match=r"embeddings are float64 \[2, 4\], expected float32 \[2, 5\]"):
        read_expected(path, said)
    np.savez(tmp_path / "check.npz", crops=crops(2)[:, :8], embeddings=np.ones((2, 5)))
    with pytest.raises(ConfigError, match=r"expected uint8 \[N, 16, 16, 3\] RGB"):
        read_expected(path, said)
    np.savez(tmp_path / "check.npz", crops=np.array([{}], dtype=object), embeddings=np.ones((2, 5)))
    with pytest.raises(ConfigError, match="allow_pickle=False"):  # nothing is unpickled
        read_expected(path, said)
