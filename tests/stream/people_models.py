"""What an adaptation worker leaves behind, made up: the general encoder under other names, and small weights."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from psm_stream.bundle import MANIFEST, general_bundle, open_bundle
from psm_stream.people_keep import keep
from psm_stream.testing import edit_manifest

GENERAL_ID = open_bundle(general_bundle()).manifest.model_id


def worker_out(out: Path, model_id: str, parent: str = GENERAL_ID, weights: Path | None = None, /, **said: Any) -> Path:
    """Write bundle/, checkpoint/ and adaptation.json. weights: a checkpoint folder to take; said: of the adaptation."""
    (out / "bundle").mkdir(parents=True)
    for name in open_bundle(general_bundle()).manifest.files:
        shutil.copyfile(general_bundle() / name, out / "bundle" / name)
    if weights is None:
        checkpoint_id = model_id[::-1]
        (out / "checkpoint").mkdir()
        content = f"weights of {model_id}".encode()
        (out / "checkpoint" / "encoder.safetensors").write_bytes(content)
        files = {"encoder.safetensors": hashlib.sha256(content).hexdigest()}
        about = {"schema": 1, "model_id": checkpoint_id, "files": files, "licence": "MIT"}
        (out / "checkpoint" / "checkpoint.json").write_text(json.dumps(about))
    else:
        shutil.copytree(weights, out / "checkpoint")
        checkpoint_id = json.loads((weights / "checkpoint.json").read_text())["model_id"]
    shutil.copyfile(general_bundle() / MANIFEST, out / "bundle" / MANIFEST)
    about = {"model_id": model_id, "parent": parent, "person": "ada", "training": {"checkpoint": checkpoint_id}}
    edit_manifest(out / "bundle", lambda tree: tree.update(about))
    adaptation = {
        "schema": 1,
        "accepted": True,
        "reason": "better",
        "model_id": model_id,
        "checkpoint_id": checkpoint_id,
        "parent": parent,
        "recipe_name": "fast",
        "frames": 486,
        "epochs": 3,
        "seconds": 61.5,
        "loss_before": 0.5,
        "loss_after": 0.25,
        "figures": {"rank": 12.5},
    }
    (out / "adaptation.json").write_text(json.dumps(adaptation | said))
    return out


def a_model(folder: Path) -> Path:
    """A folder that looks like a kept model's, from afar."""
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text("{}")
    return folder


def kept(tmp_path: Path, person: str, model_id: str, parent: str = GENERAL_ID) -> Path:
    """Keep a model for a person."""
    return keep(person, worker_out(tmp_path / f"out-{person}-{model_id}", model_id, parent))
