"""An evaluation as JSON and as a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from pydantic import JsonValue

import psm_stream
from psm_adapt.evaluate.compare import FEWEST_FOR_WILCOXON
from psm_adapt.evaluate.evaluation import Evaluation, Paired, Plan
from psm_adapt.evaluate.measures import Measure, number

SCHEMA = 1
NONE = "-"
"""Stands for a figure that there is none of."""


def as_json(evaluation: Evaluation) -> dict[str, JsonValue]:
    """Return everything, schema 1; docs/evaluation.md says what is where. A figure that there is none of is null."""
    plan = evaluation.plan
    models: list[JsonValue] = [
        {
            "name": model.name,
            "kind": model.kind,
            "model_id": model.model_id,
            "trained": model.trained,
            "dimension": dimension or None,
            "measures": {measure.kind.key: _measure(measure) for measure in measures},
        }
        for model, dimension, measures in zip(plan.models, evaluation.dimensions, evaluation.measures, strict=True)
    ]
    return {
        "schema": SCHEMA,
        "created_by": f"psm-adapt {psm_stream.__version__}",
        "protocols": list(plan.protocols),
        "tested": list(plan.tested),
        "recordings": _recordings(plan),
        "labels": None if plan.coding is None else {"source": plan.coding.source, "units": list(plan.coding.units)},
        "models": models,
        "comparisons": [_comparison(paired) for paired in evaluation.comparisons],
    }


def as_text(evaluation: Evaluation) -> str:
    """Return the tables for the terminal: every figure, every comparison, and why what is missing is missing."""
    names = [model.name for model in evaluation.plan.models]
    kinds = [measure.kind for measure in evaluation.measures[0]]
    rows = [
        [kind.title, *(_figure(of_model[n].value) for of_model in evaluation.measures)] for n, kind in enumerate(kinds)
    ]
    lines = aligned([["", *names], *rows])
    untrained = [model.name for model in evaluation.plan.models if model.trained is False]
    lines += ["", f"Untrained: {', '.join(untrained)}"] if untrained else []
    troubles = [
        f"{measure.kind.title}, {name}: {measure.trouble}"
        for name, of_model in zip(names, evaluation.measures, strict=True)
        for measure in of_model
        if measure.trouble
    ]
    lines += _part("Not measured:", dict.fromkeys(troubles))
    lines += _part("Compared over people (first minus second):", map(_compared, evaluation.comparisons))
    if any(paired.result.people < FEWEST_FOR_WILCOXON for paired in evaluation.comparisons):
        lines += ["", f"With fewer than {FEWEST_FOR_WILCOXON} people no signed-rank test can reach p < .05."]
    return "\n".join(lines)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines with the first column to the left and figures to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _measure(measure: Measure) -> JsonValue:
    return {
        "title": measure.kind.title,
        "small_is_good": measure.kind.is_error,
        "value": number(measure.value),
        "trouble": measure.trouble or None,
        "by_person": dict(measure.by_person),
        "by_unit": dict(measure.by_unit),
        "table": {person: dict(row) for person, row in measure.table.items()},
        "details": dict(measure.details),
    }


def _comparison(paired: Paired) -> JsonValue:
    result = paired.result
    return {
        "measure": paired.kind.key,
        "first": paired.first,
        "second": paired.second,
        "people": result.people,
        "mean_difference": number(result.mean),
        "larger_in": result.better,
        "interval_95": [number(result.low), number(result.high)],
        "p_wilcoxon": number(result.p_wilcoxon),
        "p_wilcoxon_holm": number(paired.p_holm),
        "p_bootstrap": number(result.p_bootstrap),
    }


def _recordings(plan: Plan) -> JsonValue:
    if plan.coding is None:
        return [{"name": clip.name, "person": clip.person, "frames": len(clip)} for clip in plan.clips]
    return [
        {
            "name": coded.clip.name,
            "person": coded.clip.person,
            "frames": len(coded.clip),
            "unlabelled": coded.unlabelled,
            "positive": {
                unit: round(float(share), 4)
                for unit, share in zip(plan.coding.units, coded.labels.mean(axis=0), strict=True)
            },
        }
        for coded in plan.coding.recordings
    ]


def _compared(paired: Paired) -> str:
    result = paired.result
    adjusted = "" if paired.p_holm == result.p_wilcoxon else f" ({_p(paired.p_holm)} by Holm)"
    return (
        f"{paired.kind.title}: {paired.first} - {paired.second} = {result.mean:+.3f} "
        f"[{result.low:+.3f}, {result.high:+.3f}], larger in {result.better} of {result.people}; "
        f"Wilcoxon p {_p(result.p_wilcoxon)}{adjusted}, bootstrap p {_p(result.p_bootstrap)}"
    )


def _p(value: float) -> str:
    return NONE if math.isnan(value) else f"{value:.2g}"


def _figure(value: float) -> str:
    return NONE if math.isnan(value) else f"{value:.3f}"


def _part(heading: str, entries: Iterable[str]) -> list[str]:
    found = [f"  {entry}" for entry in entries]
    return ["", heading, *found] if found else []
