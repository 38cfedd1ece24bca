"""What each precision costs and brings, over people nobody calibrated on. Prints JSON.

    python benchmarks/export_precisions.py CALIBRATION MEASURED [--model MODEL] [--rounds N] [--bundle DIR]

CALIBRATION and MEASURED are crop stores of different people (`psm-adapt crops`), up to 256 and 512 crops of which are
taken, evenly over each, and a few of the demo's face calibrate, too. fp32, fp16 and int8, and ONNX Runtime's own
`quantize_static` as a peer, are compared with the model's PyTorch reference, and take turns with it in being timed, one
face on one thread. `--bundle` writes the int8 form, once it has passed the gate: this is how the general bundle that
ships is made.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from common import at_least, percentiles, report, say

from psm_adapt.general.shipped import general_checkpoint
from psm_export import taking
from psm_export.crops import CALIBRATING, MEASURED, sample
from psm_export.making import float_graph, held, make_bundle
from psm_export.model import Crops, Model
from psm_export.parity.figures import cosines, measure_parity
from psm_export.parity.gate import embed, yardstick
from psm_export.precisions import CONVERTERS, Converted
from psm_export.quantise import layers_of
from psm_export.sources import open_model
from psm_export.timing import in_turns
from psm_stream.devices import open_session

CALLS_PER_ROUND = 10
SHARES = (50, 5, 1, 0.1)
"""Percentiles of the cosine that are shown beside its mean and its smallest."""


def main() -> None:
    options = parse()
    model = open_model([options.model])
    calibration, measured = (
        of_people(options.calibration, model, CALIBRATING),
        of_people(options.measured, model, MEASURED),
    )
    calibration = np.concatenate([calibration, sample(None, model.pixels.size_px, model.alignment).calibration[::6]])
    say(f"{len(calibration)} crops calibrate, {len(measured)} are measured")
    graphs = made(model, calibration)
    reference = model.reference.encode(measured)
    sizes = {name: graph.ByteSize() for name, (graph, _) in graphs.items()}
    figures: dict[str, Any] = {}
    for name, (graph, float_nodes) in graphs.items():
        given, provider = embed(graph.SerializeToString(deterministic=True), measured)
        parity = measure_parity(reference, given, model.reference.described)
        cosine = cosines(reference, given)
        figures[name] = {
            "bytes": sizes[name],
            "provider": provider,
            "max_abs": parity.max_abs,
            "mean_abs": parity.mean_abs,
            "cosine": {
                "mean": parity.cosine_mean,
                "smallest": parity.cosine,
                **{f"p{share:g}": round(float(np.percentile(cosine, share)), 6) for share in SHARES},
            },
            "neighbours_kept": parity.neighbours_kept,
            "float_nodes": float_nodes,
        }
    figures["ms"] = timed(model, {name: graph for name, (graph, _) in graphs.items()}, options.rounds)
    if options.bundle is not None:
        to = yardstick(
            model, measured, f"{len(measured)} crops of {options.measured.name}, people nobody calibrated on"
        )
        float_graph(to)
        candidate = held(to, Converted(*graphs["int8"]), "int8")
        figures["bundle"] = make_bundle(options.bundle, model, candidate, options.name).model_id
    report("export_precisions", {"model": model.about.name, "rounds": options.rounds}, figures)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="precisions next to PyTorch; prints JSON")
    parser.add_argument("calibration", type=Path, help="crop store of people to calibrate on")
    parser.add_argument("measured", type=Path, help="crop store of other people")
    parser.add_argument(
        "--model", type=Path, default=general_checkpoint(), help="what psm-export takes; default: general"
    )
    parser.add_argument("--rounds", type=int, default=30, help=f"turns of {CALLS_PER_ROUND} calls each")
    parser.add_argument("--bundle", type=Path, help="write the int8 form into this new folder")
    parser.add_argument("--name", default="general", help="name of that bundle")
    return parser.parse_args()


def of_people(store: Path, model: Model, most: int) -> Crops:
    """As many crops of each person of a store, evenly spaced, as far as they go."""
    taken = taking.of_place(store, model.pixels.size_px, model.alignment)
    people = list(dict.fromkeys(taken.people))
    names = np.array(taken.people)
    each = -(-most // len(people))
    chosen = []
    for person in people:
        rows = np.flatnonzero(names == person)
        chosen.append(rows[np.linspace(0, len(rows) - 1, min(each, len(rows))).astype(int)])
    return taken.at(np.concatenate(chosen))


def made(model: Model, calibration: Crops) -> dict[str, tuple[onnx.ModelProto, tuple[str, ...]]]:
    """Every precision, and the peer: graph and layers that stay in float."""
    graph = model.build()
    graphs = {}
    for precision, converter in CONVERTERS.items():
        say(precision)
        converted = next(converter(graph, calibration, lambda _done, _of, words: say(f"  {words}")))
        graphs[precision] = converted.graph, converted.float_nodes
    say("quantize_static")
    graphs["quantize_static"] = peer(graph, calibration), ()
    return graphs


def peer(graph: onnx.ModelProto, calibration: Crops) -> onnx.ModelProto:
    """ONNX Runtime's own over the same layers: weights per channel in 7 bits, ranges from smallest to largest."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.crops: Iterator[Crops] = iter(calibration[:, None])

        def get_next(self) -> dict[str, Crops] | None:
            crop = next(self.crops, None)
            return None if crop is None else {"crops": crop}

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        onnx.save(graph, source)
        nodes = {layer.node.name for layer in layers_of(graph)}
        kinds = sorted({layer.node.op_type for layer in layers_of(graph)})
        quantize_static(
            source,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[*kinds, "LeakyRelu"],
            nodes_to_exclude=[
                node.name for node in graph.graph.node if node.op_type in kinds and node.name not in nodes
            ],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(target)


def timed(model: Model, graphs: dict[str, onnx.ModelProto], rounds: int) -> dict[str, Any]:
    """Milliseconds of one face on one thread, PyTorch's in the same turns, and how many times faster each is."""
    import torch

    torch.set_num_threads(1)
    size = model.pixels.size_px
    crop = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    calls: dict[str, Callable[[], object]] = {}
    eager = model.reference.eager()
    if eager is not None:
        calls["pytorch_eager"] = lambda: eager(crop)
    for name, graph in graphs.items():
        session = open_session(graph.SerializeToString(deterministic=True), "cpu", 1).session
        calls[name] = lambda session=session: session.run(None, {"crops": crop})
    taken = in_turns(list(calls.values()), rounds, CALLS_PER_ROUND)
    ms = {name: 1e3 * seconds for name, seconds in zip(calls, taken, strict=True)}
    shown: dict[str, Any] = {
        name: {**percentiles(values), "min": round(values.min(), 2)} for name, values in ms.items()
    }
    if eager is not None:
        wide = ms["pytorch_eager"]
        for name in graphs:
            by_round = [np.median(values.reshape(rounds, -1), axis=1) for values in (wide, ms[name])]
            shown[name]["times_faster"] = at_least(3, float(np.median(by_round[0] / by_round[1])), 2)
    return json.loads(json.dumps(shown))


if __name__ == "__main__":
    main()
