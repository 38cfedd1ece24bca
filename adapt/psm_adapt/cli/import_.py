"""psm-adapt import: a published FaceCycle or PSM file becomes a checkpoint that training goes on from, or exports."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue, ValidationError

import psm_stream
from psm_adapt.authors import NETWORKS, OURS, AuthorsCheckpoint, read_authors
from psm_adapt.checkpoint import About, fill, save_checkpoint
from psm_adapt.data.columns import file_digest
from psm_adapt.networks.design import Design, Networks, empty_networks
from psm_stream.cli.common import Parser, put
from psm_stream.errors import CheckpointError, ConfigError

UNKNOWN = "unknown"
_EPOCH = re.compile(r"[A-Za-z]_(\d{1,6})\.(tar|pth|pt)$")
"""`ExpCode_19.tar`: FaceCycle counts epochs from 0, PSM from 1; the number is kept as it is."""


def job(arguments: Sequence[str]) -> int:
    """Import a file and say what was in it. Returns the exit code. Raises PsmError: it cannot be imported."""
    options = _parser().parse(arguments)
    path, out = Path(options.file), Path(options.out)
    if out.exists():
        raise ConfigError(f"--out {out} exists; a checkpoint is never written over anything, give a new folder")
    found = read_authors(path)
    about = _about(path, found, options)
    about = save_checkpoint(out, _networks(path, found, about.design), about)
    put(_report(path, found, about))
    put(f"{out}: checkpoint {about.model_id}; psm-export {out} --out BUNDLE makes an encoder for psm-stream of it")
    return 0


def _parser() -> Parser:
    parser = Parser(
        "psm-adapt import",
        "Read a published FaceCycle or PSM file, weights only, and make a checkpoint folder of it.",
    )
    parser.add_argument("file", metavar="FILE", help="such as ExpCode_19.tar; three or five state dicts")
    parser.add_argument("--out", required=True, metavar="CHECKPOINT", help="folder of the new checkpoint")
    parser.add_argument("--licence", help="under which its weights were given; default: unknown")
    parser.add_argument("--person", metavar="NAME", help="whom it was trained on, for a person-specific model")
    parser.add_argument("--note", metavar="TEXT", help="one line for people")
    return parser


def _about(path: Path, found: AuthorsCheckpoint, options: Namespace) -> About:
    """What the checkpoint will say of itself: what the command line says, else what our own file says, else little."""
    about = _own(found) or _published(path, found)
    given = {key: getattr(options, key) for key in ("licence", "person", "note")}
    if given["licence"] == "":
        raise ConfigError("--licence is empty; leave it away where the licence is unknown")
    return about.model_copy(update={key: value for key, value in given.items() if value is not None})


def _own(found: AuthorsCheckpoint) -> About | None:
    """What a file that `psm-adapt export-authors` wrote says of itself; None for the authors' own files."""
    if found.about is None:
        return None
    try:
        about = About.model_validate_json(found.about)
    except ValidationError:
        about = None
    if about is None or not all(text.isprintable() for text in _texts(about)):
        raise CheckpointError(
            f"its entry {OURS!r} is not what this version writes there; write the file again with export-authors"
        )
    design = about.design.model_copy(update={"generator": "facecycle", "identity": found.has_identity})
    return about.model_copy(update={"design": design})


def _texts(about: About) -> tuple[str, ...]:
    """What a terminal will be shown."""
    return about.stem, about.perceptual, about.licence, about.note, about.person or ""


def _published(path: Path, found: AuthorsCheckpoint) -> About:
    epoch = _EPOCH.search(path.name)
    theirs: list[JsonValue] = [name for name, ours in NETWORKS.items() if ours in found.states]
    return About(
        design=Design(identity=found.has_identity),
        stem=f"VGG19 as published, taken from {path.name} and not compared",
        perceptual="VGG19, not in the file",
        licence=UNKNOWN,
        created_by=f"psm-adapt import, psm-stream {psm_stream.__version__}",
        epoch=int(epoch[1]) if epoch else 0,
        training={"imported": {"file": path.name, "sha256": file_digest(path), "networks": theirs}},
    )


def _networks(path: Path, found: AuthorsCheckpoint, design: Design) -> Networks:
    networks = empty_networks(design)
    for name, state in found.states.items():
        fill(getattr(networks, name), state, str(path))
    return networks


def _report(path: Path, found: AuthorsCheckpoint, about: About) -> str:
    lines = [f"{path.name}: {len(found.states)} networks"]
    for theirs, ours in NETWORKS.items():
        if ours in found.states:
            state = found.states[ours]
            count = sum(tensor.numel() for tensor in state.values())
            lines.append(f"  {theirs} ({ours}): {len(state)} tensors, {count:,} numbers")
    lines += [f"  {note}" for note in found.notes]
    lines.append(f"  stem: {about.stem}; perceptual network: {about.perceptual}")
    epoch = about.epoch if found.about or _EPOCH.search(path.name) else UNKNOWN
    lines.append(f"  epoch {epoch}, person {about.person or 'none'}, licence {about.licence}")
    return "\n".join(lines)
