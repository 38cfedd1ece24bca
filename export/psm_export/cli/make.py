"""psm-export MODEL --out DIR: make an encoder bundle, and refuse one that does not compute what its weights do."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from psm_export.cli.arguments import (
    add_model_options,
    check_place,
    chosen,
    open_given,
    printable_text,
    sample_of,
)
from psm_stream.cli.common import Parser, put
from psm_stream.errors import ConfigError

if TYPE_CHECKING:
    import onnx

    from psm_export.cli.progress import Show
    from psm_export.making import Candidate, Tried
    from psm_export.model import Crops
    from psm_export.parity.gate import Yardstick
    from psm_stream.bundle import Manifest

FORMATS = ("onnx", "tensorrt")
PRECISIONS = ("fp32", "fp16", "int8", "auto")
_EPILOG = """\
MODEL is a checkpoint folder of psm-adapt, a published torch file (FaceCycle, PSM, temporal consistency, FAb-Net, TCAE),
or your own .onnx or torch.export .pt2 with a manifest; several become one, their embeddings side by side.
Other commands: psm-export verify BUNDLE, psm-export bench BUNDLE, psm-export show BUNDLE; each has --help.
docs/export.md says more."""


def job(arguments: Sequence[str] | None) -> int:
    """Make the bundle and print what it is. Returns the exit code. Raises PsmError: it cannot be made."""
    options = _parser().parse(arguments)
    target = chosen("--to", options.to, FORMATS)
    chosen("--precision", options.precision, PRECISIONS)
    out = Path(options.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out} exists; a bundle is never written over anything, give a new folder")
    check_place(out)
    if options.name is not None:
        printable_text("--name", options.name)
    if target == "tensorrt":
        from psm_export.engine import check_builder

        check_builder()
    from psm_export.cli.progress import Show  # rich and the rest, once the arguments are known to be good

    with Show(options.quiet) as show:
        return _make(options, out, show)


def _parser() -> Parser:
    usage = "psm-export MODEL [MODEL ...] --out DIR [options]"
    parser = Parser("psm-export", "Make an encoder bundle, which psm-stream --model runs.", usage, _EPILOG)
    parser.add_argument("model", metavar="MODEL", nargs="+", help="what to export; see below")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the new bundle")
    parser.add_argument("--to", default="onnx", metavar="FORMAT", help="onnx (the default) or tensorrt")
    parser.add_argument(
        "--precision",
        default="fp32",
        help="fp32 (the default), fp16, int8, or auto: the fastest on this machine of those that pass the gate",
    )
    parser.add_argument("--name", help="name of the bundle, for people; default: the model's")
    parser.add_argument(
        "--crops",
        metavar="PLACE",
        help="to calibrate and to measure with: crop store, folder of aligned images, recorded session or video; "
        "default: the demo's face",
    )
    add_model_options(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress")
    return parser


def _make(options: Namespace, out: Path, show: Show) -> int:
    from psm_export.making import float_graph, make_bundle
    from psm_export.parity.gate import yardstick

    show.tell(0, 4, "reading the model")
    model = open_given(options.model, options)
    show.tell(1, 4, "looking for faces to measure with")
    sample = sample_of(model, options.crops)
    show.tell(2, 4, f"running the reference over {len(sample.measured)} crops")
    to = yardstick(model, sample.measured, sample.described)
    show.tell(3, 4, "holding the float32 graph to it")
    graph = float_graph(to)
    candidate, tried = _candidate(options.precision, to, graph, sample.calibration, show)
    if options.to == "tensorrt":
        from psm_export.engine import build_engine

        build_engine(to, candidate, show.tell)
    manifest = make_bundle(out, model, candidate, options.name or model.about.name)
    for line in _report(out, manifest, tried):
        put(line)
    return 0


def _candidate(
    precision: str, to: Yardstick, graph: onnx.ModelProto, calibration: Crops, show: Show
) -> tuple[Candidate, Sequence[Tried]]:
    from psm_export.making import ORDER, convert, fastest

    for known in ORDER:
        if precision == known:
            return convert(to, graph, known, calibration, show.tell), ()
    return fastest(to, graph, calibration, show.tell)


def _report(out: Path, manifest: Manifest, tried: Sequence[Tried]) -> list[str]:
    """What was made, in lines for people."""
    parity = manifest.parity
    lines = [f"{one.precision}: {_verdict(one)}" for one in tried]
    kept = [("nearest neighbours", parity.neighbours_kept), ("clusters", parity.clusters_kept)]
    shares = "".join(f", {name} kept {share:.1%}" for name, share in kept if share is not None)
    lines.append(
        f"{out}: model {manifest.model_id}, {manifest.precision}, {manifest.input.size_px} px to "
        f"{manifest.output.dimension} numbers; over {parity.over}: off by at most "
        f"{parity.max_abs:g}, cosine {parity.cosine_mean:.5f}, smallest {parity.cosine:.5f}{shares}"
    )
    if parity.float_nodes:
        lines.append(f"layers that stay in float: {', '.join(parity.float_nodes)}")
    data = "; ".join(manifest.training_data) or "not known"
    lines.append(f"licence {manifest.licence}; trained on: {data}")
    return lines


def _verdict(one: Tried) -> str:
    return one.why_not if one.ms is None else f"passes, {one.ms:.2f} ms a face on one thread"
