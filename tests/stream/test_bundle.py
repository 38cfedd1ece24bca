"""Opening bundles: what is right opens, whatever is wrong is refused in one line that says what."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from psm_stream import __version__
from psm_stream.bundle import CHECK, ENCODER, SCHEMA, general_bundle, open_bundle
from psm_stream.errors import BundleError, DigestMismatch
from psm_stream.testing import edit_manifest

Edit = Callable[[dict[str, Any]], object]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the general bundle, to be damaged."""
    return Path(shutil.copytree(general_bundle(), tmp_path / "bundle"))


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
    assert ".DS_Store" not in open_bundle(folder).manifest.files


@pytest.fixture
def with_check(folder: Path) -> Path:
    """A bundle of which the manifest names two files: the model and what it is verified by."""
    content = bytes(range(256)) * 20
    (folder / CHECK).write_bytes(content)
    edit_manifest(folder, lambda tree: tree["files"].update({CHECK: digest(content)}))
    assert set(open_bundle(folder).manifest.files) == {ENCODER, CHECK}
    return folder


@pytest.mark.parametrize("name", [ENCODER, CHECK])
@pytest.mark.parametrize("at", [0, 1000, -1])
def test_a_flipped_bit_is_found(with_check: Path, name: str, at: int) -> None:
    content = bytearray((with_check / name).read_bytes())
    content[at] ^= 1
    (with_check / name).write_bytes(content)
    assert f"{name} has sha256" in refusal(with_check, DigestMismatch)


@pytest.mark.parametrize("name", [ENCODER, CHECK])
def test_a_missing_file_is_named(with_check: Path, name: str) -> None:
    (with_check / name).unlink()
    assert f"{name} is missing" in refusal(with_check)


def test_files_that_changed_places_are_found(with_check: Path) -> None:
    one, other = (with_check / name for name in (ENCODER, CHECK))
    contents = one.read_bytes(), other.read_bytes()
    other.write_bytes(contents[0])
    one.write_bytes(contents[1])
    refusal(with_check, DigestMismatch)


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


def test_a_newer_schema_says_which_version_reads_it(folder: Path) -> None:
    edit_manifest(folder, lambda tree: tree.update(schema=SCHEMA + 1, unheard_of=True, requires="9.4.0"))
    assert refusal(folder).endswith(
        f"made for manifest schema {SCHEMA + 1}, which needs psm-stream 9.4.0 or newer; this is {__version__}: "
        "pip install -U 'psm-stream>=9.4.0'"
    )


@pytest.mark.parametrize("requires", [None, 9, "", "9", "9.4.0; rm -rf", "9.4.0\n", "9.4.0" + "0" * 30, ["9.4.0"]])
def test_what_a_newer_manifest_says_is_shown_only_if_it_is_a_version(folder: Path, requires: object) -> None:
    edit_manifest(folder, lambda tree: tree.update(schema=SCHEMA + 1, requires=requires))
    assert refusal(folder).endswith(f"needs a newer psm-stream than {__version__}: pip install -U psm-stream")


def as_older(tree: dict[str, Any]) -> None:
    """What schema 1 said, before there were templates, origins and check files."""
    tree["schema"] = 1
    for key in ("requires", "training_data", "made_from"):
        tree.pop(key, None)
    for key in ("eye_distance", "eye_line_y"):
        tree["alignment"].pop(key, None)
    known = {"reference", "crops", "max_abs", "mean_abs", "cosine", "tolerance"}
    tree["parity"] = {key: value for key, value in tree["parity"].items() if key in known}


def test_older_manifests_open_and_have_our_template(folder: Path) -> None:
    edit_manifest(folder, as_older)
    manifest = open_bundle(folder).manifest
    assert (manifest.schema_version, manifest.requires, manifest.training_data) == (1, None, ())
    assert (manifest.alignment.eye_distance, manifest.alignment.eye_line_y) == (0.38, 0.34)
    assert manifest.terms.endswith("trained on: nobody said")


def test_licence_and_training_data_are_said_in_one_line(folder: Path) -> None:
    edit_manifest(folder, lambda tree: tree.update(licence="CC BY-NC 4.0", training_data=["VoxCeleb2", "ours (MIT)"]))
    assert open_bundle(folder).manifest.terms == "licence CC BY-NC 4.0; trained on: VoxCeleb2, ours (MIT)"


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "a\rb", "\x00", "\u202egnp.exe", "\u2028"])
@pytest.mark.parametrize("key", ["name", "note", "licence", "architecture", "created_by", "person", "training_data"])
def test_what_is_shown_cannot_move_the_cursor(folder: Path, key: str, text: str) -> None:
    edit_manifest(folder, lambda tree: tree.update({key: [text] if key == "training_data" else text}))
    told = refusal(folder)
    assert f"{key}" in told
    assert "control characters" in told
    assert told.isprintable()


def test_a_text_of_a_section_cannot_either(folder: Path) -> None:
    edit_manifest(folder, lambda tree: tree["alignment"].update(template="a\x1b[0m"))
    assert "alignment.template" in refusal(folder)


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


def test_a_flipped_bit_in_the_manifest_is_found(folder: Path) -> None:
    path = folder / "manifest.json"
    whole = path.read_bytes()
    places = [place for place, byte in enumerate(whole) if not chr(byte).isspace()]
    for place in places[::41]:
        content = bytearray(whole)
        content[place] ^= 1
        path.write_bytes(content)
        refusal(folder)


def test_a_number_that_was_changed_is_found(folder: Path) -> None:
    path = folder / "manifest.json"
    text = path.read_text(encoding="utf-8")
    assert '"eye_distance": 0.38' in text
    path.write_text(text.replace('"eye_distance": 0.38', '"eye_distance": 0.39'), encoding="utf-8")
    assert "manifest.json does not have the digest that it names" in refusal(folder, DigestMismatch)


def test_a_manifest_written_otherwise_with_the_same_values_is_the_same(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")), sort_keys=True), encoding="utf-8")
    open_bundle(folder)


def test_a_manifest_without_its_digest_is_refused_but_for_those_of_before(folder: Path) -> None:
    path = folder / "manifest.json"
    tree = json.loads(path.read_text(encoding="utf-8"))
    del tree["digest"]
    path.write_text(json.dumps(tree), encoding="utf-8")
    refusal(folder, DigestMismatch)
    tree["schema"] = 1
    path.write_text(json.dumps(tree), encoding="utf-8")
    open_bundle(folder)
