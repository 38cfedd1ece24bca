"""The one entrance: whatever somebody names, as a `Model`. torch is imported once something that needs it is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from psm_export.model import Model
from psm_stream.bundle import MANIFEST, Alignment
from psm_stream.errors import ConfigError, PsmError

TORCH_FILES = (".tar", ".pth", ".pt", ".bin", ".ckpt")
OWN_FILES = (".onnx", ".pt2")
_CHECKPOINT = "checkpoint.json"
_ACCEPTED = (
    "give a checkpoint folder, a published .tar, .pth or .pt file, or your own .onnx or .pt2 file with its manifest"
)


def open_model(paths: Sequence[Path], manifest: Path | None = None, alignment: Alignment | None = None) -> Model:
    """Open a checkpoint folder, a published file, somebody's own .onnx or .pt2, or several of them as an ensemble.

    manifest: of one's own model, JSON or YAML; None: the file of the same name beside it. alignment: where the eyes are
    to lie, in place of what the model says; None: as it says.
    Raises ConfigError: nothing that can be exported, a manifest that is wrong, missing, or has no model to belong to.
    CheckpointError, BundleError: it is of a kind that is read here, and damaged, foreign or unsafe.
    """
    if not paths:
        raise ConfigError(f"no model given; {_ACCEPTED}")
    own = [path for path in paths if path.suffix.lower() in OWN_FILES]
    if manifest is not None and len(own) != 1:
        raise ConfigError(
            f"--manifest {manifest} belongs to one .onnx or .pt2 file, {len(own)} given; put each manifest beside "
            "its file"
        )
    if len(paths) == 1:
        return _open(paths[0], manifest, alignment)
    from psm_export.sources.ensemble import ensemble

    parts = []
    for number, path in enumerate(paths, start=1):
        try:
            parts.append(_open(path, manifest if path in own else None, alignment))
        except PsmError as error:
            raise type(error)(f"part {number} of the ensemble: {error}") from None
    return ensemble(parts)


def _open(path: Path, manifest: Path | None, alignment: Alignment | None) -> Model:
    if not path.exists():
        raise ConfigError(f"{path}: no such file or folder; {_ACCEPTED}")
    if path.is_dir():
        return _open_folder(path, alignment)
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        from psm_export.sources.user import read_onnx

        return read_onnx(path, manifest, alignment)
    if suffix == ".pt2":
        from psm_export.sources.program import read_program

        return read_program(path, manifest, alignment)
    if suffix in TORCH_FILES:
        from psm_export.sources.published import read_published

        return read_published(path, alignment)
    raise ConfigError(f"{path}: {_kind(path)} is nothing that can be exported; {_ACCEPTED}")


def _open_folder(path: Path, alignment: Alignment | None) -> Model:
    if (path / _CHECKPOINT).is_file():
        from psm_export.checkpoint import read_checkpoint
        from psm_export.sources.facecycle_model import of_checkpoint

        return of_checkpoint(read_checkpoint(path), alignment)
    if (path / MANIFEST).is_file():
        raise ConfigError(f"{path} is an encoder bundle already; psm-stream --model {path} runs it")
    raise ConfigError(f"{path} is a folder with neither {_CHECKPOINT} nor {MANIFEST}; {_ACCEPTED}")


def _kind(path: Path) -> str:
    if path.suffix.lower() == ".safetensors":
        return "a safetensors file alone, which does not say which network it is of,"
    return f"a file that ends in {path.suffix!r}" if path.suffix else "a file without an ending"
