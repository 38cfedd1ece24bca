"""Probe scores of what needs no model: raw pixels, landmarks, blendshapes, and the encoder that ships. Prints JSON.

    psm-adapt crops FOLDER --out STORE --landmarker
    python benchmarks/probe_baselines.py STORE [--tested NAME,...] [--model MODEL ...]

These are the marks that an encoder has to pass. The labels are proxies computed from the Face Landmarker's landmarks,
so its blendshapes are near the upper bound. A store's landmarks are those that its crops were made with: FaceMesh's,
unless the aligner was the Face Landmarker.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

from psm_adapt.data.store import open_store
from psm_adapt.evaluate.clips import clips_of, people_in
from psm_adapt.evaluate.evaluation import Plan, evaluate
from psm_adapt.evaluate.features import BASELINES, GENERAL, open_model
from psm_adapt.evaluate.labels import from_blendshapes


def main() -> None:
    options = parse()
    clips = tuple(clips_of([open_store(options.store)]))
    coding = from_blendshapes(clips)
    people = people_in(clips)
    tested = tuple(options.tested.split(",")) if options.tested else people
    report: dict[str, object] = {
        "people": list(people),
        "tested": list(tested),
        "frames": sum(len(coded.clip) for coded in coding.recordings),
    }
    for what in [*BASELINES, GENERAL, *options.model]:
        model = open_model(what)
        started = time.perf_counter()
        done = evaluate(Plan((model,), clips, coding, ("probe",), tested, os.cpu_count() or 1))
        figures = {
            measure.kind.key: {
                "value": round(measure.value, 3),
                "by_person": {person: round(value, 3) for person, value in measure.by_person.items()},
            }
            for measure in done.measures[0]
        }
        report[model.name] = {"seconds": round(time.perf_counter() - started, 1), **figures}
    print(json.dumps(report, indent=2))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="probe scores of what needs no model; prints JSON")
    parser.add_argument("store", type=Path, help="crop store with blendshapes and landmarks")
    parser.add_argument("--tested", help="people whose results count; all by default")
    parser.add_argument("--model", action="append", default=[], help="further models, as psm-adapt evaluate takes them")
    return parser.parse_args()


if __name__ == "__main__":
    main()
