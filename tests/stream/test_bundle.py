"""Opening bundles: what is right opens, whatever is wrong is refused in one line that says what."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from psm_stream.bundle import SCHEMA, general_bundle, open_bundle
from psm_stream.errors import BundleError, DigestMismatch

Edit = Callable[[dict[str, Any]], object]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the general bundle, to be damaged."""
    return Path(shutil.copytree(general_bundle(), tmp_path / "bundle"))


def edit_manifest(folder: Path, edit: Edit) -> None:
    path = folder / "manifest.json"
    tree = json.loads(path.read_text(encoding="utf-8"))
    edit(tree)
    path.write_text(json.dumps(tree), encoding="utf-8")


def refusal(folder: Path, kind: type[BundleError] = BundleError) -> str:
    with pytest.raises(kind) as caught:
        open_bundle(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def test_the_general_bundle_opens_where_the_package_is() -> None:
    bundle = open_bundle(general_bundle())
    assert bundle.folder.parts[-3:] == ("psm_stream", "bundles", "general")
    assert bundle.read("encoder.onnx")
    assert bundle.manifest.alignment.template == "eyes-level-1"


def test_files_beside_the_bundle_are_left_alone(folder: Path) -> None:
    (folder / ".DS_Store").write_bytes(b"left by a file browser")
    assert list(open_bundle(folder).manifest.files) == ["encoder.onnx"]


@pytest.mark.parametrize("at", [0, 1000, -1])
def test_a_flipped_bit_is_found(folder: Path, at: int) -> None:
    content = bytearray((folder / "encoder.onnx").read_bytes())
    content[at] ^= 1
    (folder / "encoder.onnx").write_bytes(content)
    assert "encoder.onnx has sha256" in refusal(folder, DigestMismatch)


def test_a_cut_file_is_found(folder: Path) -> None:
    content = (folder / "encoder.onnx").read_bytes()
    (folder / "encoder.onnx").write_bytes(content[:-1])
    refusal(folder, DigestMismatch)


def test_swapped_files_are_found(folder: Path) -> None:
    (folder / "engine.plan").write_bytes(b"another file")
    edit_manifest(folder, lambda tree: tree["files"].update({"engine.plan": digest(b"another file")}))
    open_bundle(folder)
    (folder / "encoder.onnx").rename(folder / "held")
    (folder / "engine.plan").rename(folder / "encoder.onnx")
    (folder / "held").rename(folder / "engine.plan")
    refusal(folder, DigestMismatch)


def test_a_file_that_changes_after_opening_is_found(folder: Path) -> None:
    bundle = open_bundle(folder)
    (folder / "encoder.onnx").write_bytes(b"changed")
    with pytest.raises(DigestMismatch):
        bundle.read("encoder.onnx")


def test_missing_parts_are_named(folder: Path, tmp_path: Path) -> None:
    (folder / "encoder.onnx").unlink()
    assert "encoder.onnx is missing" in refusal(folder)
    (folder / "manifest.json").unlink()
    assert "no manifest.json" in refusal(folder)
    assert "no such folder" in refusal(tmp_path / "nowhere")


def test_a_file_or_a_foreign_folder_is_no_bundle(folder: Path, tmp_path: Path) -> None:
    assert "is a file" in refusal(folder / "encoder.onnx")
    (tmp_path / "photos").mkdir()
    assert "not a bundle" in refusal(tmp_path / "photos")


def test_a_newer_schema_says_to_upgrade(folder: Path) -> None:
    edit_manifest(folder, lambda tree: tree.update(schema=SCHEMA + 1, unheard_of=True))
    assert f"schema {SCHEMA + 1}, this psm-stream reads {SCHEMA}; upgrade" in refusal(folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "no 'schema' number"),
        (b'{"schema": "1"}', "no 'schema' number"),
        (b'{"schema": true}', "no 'schema' number"),
        (b'{"schema": 0}', "schema"),
        (b'{"schema": 1}', "name: field required"),
    ],
)
def test_a_manifest_that_is_none_is_refused(folder: Path, content: bytes, said: str) -> None:
    (folder / "manifest.json").write_bytes(content)
    assert said in refusal(folder)


@pytest.mark.parametrize(
    "name",
    ["../encoder.onnx", "/etc/passwd", "sub/encoder.onnx", "..", ".", "", "C:\\x", "a\\b", ".hidden", "x" * 200, "a\n"],
)
def test_no_manifest_points_out_of_its_folder(folder: Path, name: str) -> None:
    edit_manifest(folder, lambda tree: tree["files"].update({name: digest(b"")}))
    assert "files" in refusal(folder)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda tree: tree.update(model_id="XYZ"), "model_id"),
        (lambda tree: tree.update(trained="no"), "trained"),
        (lambda tree: tree.update(colour="BGR"), "colour: extra"),
        (lambda tree: tree["input"].update(size_px=64.0), "input.size_px"),
        (lambda tree: tree["input"].update(colour="BGR"), "input.colour"),
        (lambda tree: tree["output"].update(dimension=0), "output.dimension"),
        (lambda tree: tree["output"].pop("dimension"), "output.dimension: field required"),
        (lambda tree: tree["files"].update({"encoder.onnx": "short"}), "files.encoder.onnx"),
        (lambda tree: tree.update(files={}), "names no encoder.onnx"),
        (lambda tree: tree.pop("licence"), "licence: field required"),
        (lambda tree: tree["parity"].update(max_abs=-1), "parity.max_abs"),
        (lambda tree: tree["parity"].update(max_abs=float("nan")), "parity.max_abs"),
    ],
)
def test_wrong_values_are_named(folder: Path, edit: Edit, said: str) -> None:
    edit_manifest(folder, edit)
    assert said in refusal(folder)
