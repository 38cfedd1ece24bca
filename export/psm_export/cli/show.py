"""psm-export show BUNDLE: what a bundle is, what it was made of, under which licence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from psm_stream.bundle import ENCODER, Manifest, open_bundle
from psm_stream.cli.common import Parser, put
from psm_stream.onnx_file import check_self_contained
from psm_stream.redact import printable


def job(arguments: Sequence[str]) -> int:
    """Print what the manifest says, digests checked. Returns the exit code. Raises BundleError: it is damaged."""
    parser = Parser(
        "psm-export show",
        "Say what a bundle is; checks the digest of every file, and that the graph needs nothing else.",
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="bundle folder")
    parser.add_argument("--json", action="store_true", help="print the manifest as it is")
    options = parser.parse(arguments)
    bundle = open_bundle(Path(options.bundle))
    check_self_contained(bundle.read(ENCODER))
    manifest = bundle.manifest
    put(manifest.model_dump_json(by_alias=True, indent=2) if options.json else _text(bundle.folder, manifest))
    return 0


def _text(folder: Path, manifest: Manifest) -> str:
    parity, alignment = manifest.parity, manifest.alignment
    rows = {
        "bundle": f"{folder}, {manifest.name}, model {manifest.model_id}",
        "network": f"{manifest.architecture}, {manifest.precision}" + ("" if manifest.trained else ", UNTRAINED"),
        "takes": f"{manifest.input.size_px} px RGB, {manifest.input.normalisation}",
        "crop": f"{alignment.template}: {alignment.crop_px} px, eyes {alignment.eye_distance:g} of the side apart, "
        f"{alignment.eye_line_y:g} from above",
        "gives": f"{manifest.output.dimension} numbers",
        "note": manifest.note or "none",
        "person": manifest.person or "anyone",
        "licence": manifest.licence,
        "trained on": "; ".join(manifest.training_data) or "not known",
        "made from": ", ".join(f"{key} {value}" for key, value in manifest.made_from.items()) or "not said",
        "made by": manifest.created_by,
        "parity": f"{parity.reference}; {parity.over}: off by at most "
        f"{parity.max_abs:g}, mean {parity.mean_abs:g}, smallest cosine {parity.cosine:g}",
        "in float": ", ".join(parity.float_nodes) or ("none" if manifest.precision == "int8" else "all"),
        "files": ", ".join(f"{name} {digest[:12]}" for name, digest in manifest.files.items()) + " (checked)",
    }
    return "\n".join(f"{key:<11}{printable(value)}" for key, value in rows.items())
