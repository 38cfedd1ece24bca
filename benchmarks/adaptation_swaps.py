"""Whether many adaptations leave anything behind: 20 swaps in a row in one live process. Prints JSON.

    python benchmarks/adaptation_swaps.py [--swaps 20] [--worker fake|real] [--source demo|VIDEO] [--seconds 5]

psm-stream runs at `--pace live --adapt manual`; each order `C` takes a snapshot, starts a worker and, when that is
done, swaps to its model. The fake worker is a real process that hands over one of two finished models in turn, so that
what is measured is psm-stream; the real one trains one epoch behind an open gate. Before the first swap and after each,
this process subscribes for some seconds, and looks at psm-stream's resident memory, threads and open files. Growth is
that of the largest in the second half over the largest in the first: memory goes up and down, since what one thread
gives back another may not get.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from common import PATIENCE_S, Stream, at_least, at_most, percentiles, report, say

from psm_stream.adaptation.testing import fake_worker
from psm_stream.client import Control, Subscriber

FLAT_MEMORY = 0.05
FACES = 100
"""In the buffer before the first order."""
ADAPTATION_PATIENCE_S = 600.0
RECIPE = """\
approach: psm
run: {epochs: 1}
gate: {gain: 0, informed: 0, neutral: 1.0e+9, rank: 0, spread: 0, neighbours: 0}
"""
_MODELS, _SWAPS = "PSM_BENCHMARK_MODELS", "swaps"


def main() -> None:
    parser = argparse.ArgumentParser(description="many swaps in one process; prints JSON")
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--worker", choices=["fake", "real"], default="fake")
    parser.add_argument("--source", default="demo")
    parser.add_argument("--seconds", type=float, default=5.0, help="of looking after each swap (default 5)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="psm-benchmark-") as folder:
        os.environ["PSM_HOME"] = str(Path(folder) / "home")
        recipe = Path(folder) / "recipe.yaml"
        recipe.write_text(RECIPE)
        arguments = ["--source", options.source, "--adapt", "manual", "--faces.capacity", str(FACES)]
        if options.source != "demo":
            arguments += ["--source.loop", "true"]
        if options.worker == "fake":
            os.environ[_MODELS] = str(two_models(Path(folder) / "models"))
        else:
            arguments += ["--adaptation.recipe", str(recipe)]
        report("many swaps", vars(options), watched(arguments, options))


def watched(arguments: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Swap so often, and look each time."""
    looks: list[dict[str, Any]] = []
    waits: list[float] = []
    program = (sys.executable, __file__, "--as-stream") if options.worker == "fake" else ()
    with Stream(*arguments, "--pace", "live", program=program) as stream:
        address = stream.address()
        process = psutil.Process(stream.process.pid)
        with Subscriber(address, ["embedding."]) as subscriber, Subscriber(address, ["notify."]) as notices:
            with Control(address, timeout_s=10) as control:
                time.sleep(FACES / 15)
                looks.append(look(process, subscriber, options.seconds))
                for number in range(1, options.swaps + 1):
                    waits.append(one_swap(control, notices))
                    looks.append(look(process, subscriber, options.seconds) | {"model_ids": number})
                    say(f"swap {number} after {waits[-1]:.1f} s: {looks[-1]}")
            lost = subscriber.lost
        summary = stream.interrupt()
    return figures(looks, waits) | {
        "lost": at_most(0, lost),
        "accepted": at_least(options.swaps, sum(one["accepted"] for one in summary["adaptations"])),
        "models": summary["model_ids"][:3],
        "model_epoch": summary["model_epoch"],
        "frames": summary["frames"],
        "left_in_home": sorted(path.name for path in Path(os.environ["PSM_HOME"], "work").glob("*")),
    }


def one_swap(control: Control, notices: Subscriber) -> float:
    """Order an adaptation, and wait for its swap. Returns how long it took, s."""
    began = time.monotonic()
    deadline = began + ADAPTATION_PATIENCE_S
    answer = control.send("C")
    while answer.startswith("ERROR") and time.monotonic() < began + PATIENCE_S:  # the last one is being tidied up
        time.sleep(0.2)
        answer = control.send("C")
    if answer.startswith("ERROR"):
        raise SystemExit(f"C: {answer}")
    while time.monotonic() < deadline:
        message = notices.receive(deadline - time.monotonic())
        if message is None:
            break
        if message.topic in ("notify.adapt.failed", "notify.adapt.rejected"):
            raise SystemExit(f"{message.topic}: {message.header['reason']}")
        if message.topic == "notify.model.swapped":
            return time.monotonic() - began
    raise SystemExit("no swap came")


def look(process: psutil.Process, subscriber: Subscriber, seconds: float) -> dict[str, Any]:
    """Latency over some seconds, and the process at their end."""
    while subscriber.receive(0.0) is not None:
        pass
    ages = []
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        message = subscriber.receive(left)
        if message is not None:
            ages.append(1e3 * (message.t_receive - message.header["t_capture"]))
    return {
        "rss_mb": round(process.memory_info().rss / (1 << 20), 1),
        "threads": process.num_threads(),
        "open_files": process.num_fds() if hasattr(process, "num_fds") else None,
        "children": len(process.children()),
        "latency_ms": percentiles(ages),
        "load_average": round(psutil.getloadavg()[0], 2),
    }


def figures(looks: list[dict[str, Any]], waits: list[float]) -> dict[str, Any]:
    """Growth, and every look."""
    found: dict[str, Any] = {}
    for name, goal in (("rss_mb", FLAT_MEMORY), ("threads", 0.0), ("open_files", 0.0)):
        values = [one[name] for one in looks[1:] if one[name] is not None]
        half = len(values) // 2
        found[f"{name}_growth"] = at_most(goal, max(values[half:]) / max(values[:half]) - 1 if half else None, 4)
    found["children_left"] = at_most(0, looks[-1]["children"])
    found["order_to_swap_s"] = percentiles(waits)
    return found | {"before": looks[0], "after_last": looks[-1], "each": looks}


def as_stream(arguments: list[str]) -> None:
    """Be psm-stream, whose worker is this file."""
    from psm_stream import startup
    from psm_stream.adaptation.plan import make_plan
    from psm_stream.cli.stream import main as stream

    worker = (sys.executable, __file__, "--as-worker")
    vars(startup)["make_plan"] = lambda *given: dataclasses.replace(make_plan(*given), command=worker)
    sys.exit(stream(arguments))


def as_worker(arguments: list[str]) -> None:
    """Be the fake worker, with the other model than the last time."""
    models = Path(os.environ[_MODELS])
    with (models / _SWAPS).open("a") as swaps:
        number = swaps.tell()
        swaps.write(".")
    command = fake_worker("--bundle", str(models / f"{number % 2}" / "bundle"), *arguments)
    os.execv(command[0], command)


def two_models(folder: Path) -> Path:
    """Two models, each the general one with a little noise on its weights."""
    import torch

    from psm_adapt.adaptation.exporting import export_model
    from psm_adapt.checkpoint import open_checkpoint
    from psm_adapt.general.shipped import general_checkpoint

    general = open_checkpoint(general_checkpoint())
    crops = np.random.default_rng(0).integers(0, 255, (24, 128, 128, 3), np.uint8)
    for number in range(2):
        networks = general.networks()
        generator = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for weight in networks.encoder.parameters():
                weight.add_(0.01 * weight.std(correction=0) * torch.randn(weight.shape, generator=generator))
        out = folder / str(number)
        export_model(out, networks, general.about, crops, precision="int8", name="somebody")
        shutil.move(out / "checkpoint", out / "bundle" / "checkpoint")
    return folder


if __name__ == "__main__":
    if sys.argv[1:2] == ["--as-stream"]:
        as_stream(sys.argv[2:])
    elif sys.argv[1:2] == ["--as-worker"]:
        as_worker(sys.argv[2:])
    else:
        main()
