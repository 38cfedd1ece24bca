"""psm-export: make an encoder bundle of a checkpoint, and measure how far the bundle is from its weights."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

from psm_stream.cli.common import Parser, ending_at_once, leave, nearest, put, run
from psm_stream.errors import ConfigError

if TYPE_CHECKING:
    from psm_export.build import Precision

Choice = TypeVar("Choice", bound=str)

FORMATS = ("onnx",)
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
_LATER = {"tensorrt": "--to", "fp16": "--precision"}
"""Values that a later version takes."""


def entry() -> NoReturn:
    """psm-export."""
    with ending_at_once():
        leave(run(job))


def job(arguments: Sequence[str] | None) -> int:
    """Make the bundle and print what it is. Returns the exit code. Raises PsmError: it cannot be made."""
    options = _parser().parse(arguments)
    _chosen("--to", options.to, FORMATS)
    precision = _chosen("--precision", options.precision, PRECISIONS)
    out = Path(options.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out} exists; a bundle is never written over anything, give a new folder")
    try:
        return _export(options, out, precision)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("psm_export", "psm_stream"):
            raise
        raise ConfigError(f"psm-export needs {error.name}; install it with: pip install 'psm-stream[export]'") from None


def _parser() -> Parser:
    parser = Parser("psm-export", "Make an encoder bundle, which psm-stream --model runs, of a checkpoint.")
    parser.add_argument("model", metavar="MODEL", help="checkpoint folder; psm-adapt import makes one of a .tar file")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the new bundle")
    parser.add_argument("--to", default="onnx", metavar="FORMAT", help="onnx, the default")
    parser.add_argument("--precision", default="fp32", help="fp32 (the default) or int8 (faster, less exact)")
    parser.add_argument("--name", help="name of the bundle, for people; default: the checkpoint folder's")
    parser.add_argument(
        "--crops", metavar="DIR", help="crop store or folder of aligned images to calibrate and measure with"
    )
    return parser


def _chosen(option: str, value: str, known: Sequence[Choice]) -> Choice:
    for choice in known:
        if choice == value:
            return choice
    if _LATER.get(value) == option:
        raise ConfigError(f"{option} {value}: not in this version, which makes {' or '.join(known)}")
    raise ConfigError(f"{option} {value!r}: unknown{nearest(value, known)}")


def _export(options: Namespace, out: Path, precision: Precision) -> int:
    from psm_export.build import build, measure  # onnx and the rest, once the arguments are known to be good
    from psm_export.checkpoint import read_checkpoint
    from psm_export.crops import sample
    from psm_export.write import describe, write_bundle

    checkpoint = read_checkpoint(Path(options.model))
    crops = sample(None if options.crops is None else Path(options.crops))
    model = build(checkpoint.weights, precision, crops.calibration)
    parity = measure(model, checkpoint.weights, crops.measured, f"the same weights in float64, over {crops.described}")
    name = options.name or checkpoint.folder.resolve().name
    manifest = write_bundle(out, model, describe(checkpoint, name, precision), parity)
    put(
        f"{out}: model {manifest.model_id}, {manifest.precision}, licence {manifest.licence}; off by at most "
        f"{parity.max_abs:g} over {parity.crops} crops, smallest cosine {parity.cosine:g}"
    )
    return 0
