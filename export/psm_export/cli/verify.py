"""psm-export verify BUNDLE: does it compute on this machine, by this provider, what its weights do?"""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psm_export.cli.arguments import DEVICES, add_model_options, chosen, open_given, sample_of
from psm_stream.cli.common import Parser, put
from psm_stream.errors import ConfigError, ParityFailed

if TYPE_CHECKING:
    from psm_export.parity.verifying import Verdict
    from psm_stream.encoder import Encoder

_EPILOG = """\
Every file's digest is checked, then the model runs through the live path's own encoder over the crops that the bundle
carries, and is held to the limits of its precision. With --against, the model that it was made of is read again, and
the whole gate is repeated over --crops. Exit codes: 0 it passes; 1 it does not, with the reason; 2 wrong arguments."""


def job(arguments: Sequence[str]) -> int:
    """Verify and print the figures. Returns the exit code. Raises ParityFailed: the bundle breaks its limits."""
    options = _parser().parse(arguments)
    device = chosen("--device", options.device, DEVICES)
    if options.crops is not None and options.against is None:
        raise ConfigError("--crops needs --against MODEL: what is to be expected of other crops, its weights must say")
    from psm_export.parity.verifying import verify
    from psm_stream.bundle import open_bundle
    from psm_stream.encoder import open_encoder

    encoder = open_encoder(open_bundle(Path(options.bundle)), device, 1)
    verdict = verify(encoder) if options.against is None else _against(encoder, options)
    table = _figures(encoder, verdict)
    put(json.dumps(table, indent=2) if options.json else _text(Path(options.bundle), encoder, table))
    if verdict.held.failures:
        reasons = "; ".join(dict.fromkeys(filter(None, (*verdict.held.failures, verdict.blamed))))
        raise ParityFailed(f"{options.bundle} does not compute what its weights do: {reasons}")
    return 0


def _parser() -> Parser:
    parser = Parser("psm-export verify", "Hold a bundle to its reference again, on this machine.", epilog=_EPILOG)
    parser.add_argument("bundle", metavar="BUNDLE", help="bundle folder")
    parser.add_argument("--device", default="auto", help="auto (the default), cpu, cuda or tensorrt")
    parser.add_argument(
        "--against", metavar="MODEL", action="append", help="what the bundle was made of; repeat for an ensemble"
    )
    parser.add_argument("--crops", metavar="PLACE", help="with --against: as for psm-export MODEL; default: the demo")
    add_model_options(parser)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser


def _against(encoder: Encoder, options: Namespace) -> Verdict:
    from psm_export.parity.verifying import verify_against

    model = open_given(options.against, options)
    return verify_against(encoder, model, sample_of(model, options.crops))


def _figures(encoder: Encoder, verdict: Verdict) -> dict[str, Any]:
    parity, manifest = verdict.held.parity, encoder.bundle.manifest
    return {
        "model_id": manifest.model_id,
        "precision": manifest.precision,
        "device": encoder.device,
        "provider": encoder.provider,
        "crops": parity.crops,
        "of": parity.over,
        "reference": parity.reference,
        "figures": {one.name: [one.value, one.limit, one.bound] for one in verdict.held.figures},
        "max_abs": parity.max_abs,
        "mean_abs": parity.mean_abs,
        "passes": not verdict.held.failures,
        "failures": list(verdict.held.failures),
        "blamed": verdict.blamed,
    }


def _text(folder: Path, encoder: Encoder, table: dict[str, Any]) -> str:
    files = len(encoder.bundle.manifest.files)
    lines = [
        f"{folder}: model {table['model_id']}, {table['precision']}, on {table['provider']} ({encoder.why})",
        f"digests of {files} files as the manifest says; {table['of']}, against {table['reference']}",
    ]
    for name, (value, _, bound) in table["figures"].items():
        shown = "not measured: too few crops" if value is None else f"{value:<12.6g} {bound}"
        lines.append(f"  {name:<20} {shown}")
    lines.append("passes" if table["passes"] else "FAILS")
    return "\n".join(lines)
