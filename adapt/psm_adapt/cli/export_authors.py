"""psm-adapt export-authors: a checkpoint in the authors' format, for their own programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from psm_adapt.authors import EXPRESSION, NETWORKS, PREFIX, write_authors
from psm_adapt.checkpoint import Checkpoint, open_checkpoint
from psm_stream.cli.common import Parser, put
from psm_stream.errors import CheckpointError


def job(arguments: Sequence[str]) -> int:
    """Write the file and say what is in it. Returns the exit code. Raises PsmError: it cannot be written."""
    options = _parser().parse(arguments)
    out = Path(options.out)
    checkpoint = open_checkpoint(Path(options.checkpoint))
    names = _networks(checkpoint, options.expression_only)
    states = {name: checkpoint.tensors(name) for name in names.values()}
    about = checkpoint.about.model_dump_json(by_alias=True)
    write_authors(out, states, PREFIX if options.module_prefix else "", about)
    put(f"{out}: {', '.join(names)} of checkpoint {checkpoint.about.model_id}, licence {checkpoint.about.licence}")
    if checkpoint.design.stem != "vgg19":
        put("its generator's stem is learned, not VGG19's; the authors' programs load it all the same")
    return 0


def _parser() -> Parser:
    parser = Parser("psm-adapt export-authors", "Write a checkpoint as FaceCycle's and PSM's programs read it.")
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="checkpoint folder")
    parser.add_argument("--out", required=True, metavar="FILE", help="such as ExpCode_10.tar")
    parser.add_argument(
        "--module-prefix", action="store_true", help="put module. before each key, as DataParallel does"
    )
    parser.add_argument("--expression-only", action="store_true", help="leave out the identity stage's two networks")
    return parser


def _networks(checkpoint: Checkpoint, expression_only: bool) -> dict[str, str]:
    """The networks to write, the authors' name and ours. Raises CheckpointError: their format has no such generator."""
    if checkpoint.design.generator != "facecycle":
        raise CheckpointError(
            f"checkpoint {checkpoint.folder} has the generator {checkpoint.design.generator!r}, which the authors' "
            "format lacks; psm-export makes a bundle of its encoder, which needs no generator"
        )
    identity = checkpoint.design.identity and not expression_only
    return {theirs: ours for theirs, ours in NETWORKS.items() if identity or theirs in EXPRESSION}
