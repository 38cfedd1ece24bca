"""A comparison of clusters as JSON and as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

import psm_stream
from psm_adapt.clusters.comparison import PersonResult, Result
from psm_adapt.clusters.novel import Novelty, Profiles
from psm_adapt.clusters.sweep import NOISE, Setting
from psm_adapt.evaluate.compare import Comparison
from psm_adapt.evaluate.measures import number
from psm_adapt.evaluate.report import aligned

SCHEMA = 1
_OFTEN = 0.1
"""An action unit is named in a profile when it is on in so large a share of the cluster's frames."""
_MOST_NAMED = 4


def as_json(result: Result) -> dict[str, JsonValue]:
    """Return everything, schema 1; docs/cluster-analysis.md says what is where."""
    plan = result.plan
    return {
        "schema": SCHEMA,
        "created_by": f"psm-adapt {psm_stream.__version__}",
        "models": [{"name": model.name, "kind": model.kind, "model_id": model.model_id} for model in plan.models],
        "labels": {"source": plan.coding.source, "units": list(plan.coding.units)},
        "scaling": plan.scaling,
        "settings": [_setting(setting) for setting in plan.settings],
        "people": [_person(person) for person in result.people],
        "clusters_first_minus_second": _comparison(result.clusters),
        "novel_first_minus_second": _comparison(result.novel),
    }


def as_text(result: Result) -> str:
    """Return the tables: counts by person, the comparisons over people, and everybody's novel clusters."""
    first, second = (model.name for model in result.plan.models)
    rows = [["", "frames", f"clusters {first}", second, f"noise {first}", second, f"novel {first}", second]]
    rows += [_row(person) for person in result.people]
    lines = aligned(rows)
    lines += ["", f"Means over {len(result.plan.settings)} settings of DBSCAN ({result.plan.scaling} vectors)."]
    for what, comparison in (("Clusters", result.clusters), ("Novel clusters", result.novel)):
        lines.append(f"{what}, {first} - {second}: {_compared(comparison)}")
    for person in result.people:
        lines += ["", *_novel(person, result)]
    return "\n".join(lines)


def name_of(model: str, label: int) -> str:
    """What a cluster of a model is called: MODEL_3, or MODEL_noise."""
    return f"{model}_{'noise' if label == NOISE else label}"


def _setting(setting: Setting) -> dict[str, JsonValue]:
    return {"eps": setting.eps, "min_samples": setting.min_samples}


def _person(person: PersonResult) -> JsonValue:
    finest = person.finest()
    return {
        "person": person.person,
        "frames": person.frames,
        "mean_clusters": list(person.mean_clusters()),
        "mean_noise": list(person.mean_noise()),
        "mean_novel": list(person.mean_novel()),
        "by_setting": [
            {
                **_setting(setting),
                "clusters": list(of.clusters),
                "noise": list(of.noise),
                "novel": [list(of.novelty.novel_first), list(of.novelty.novel_second)],
            }
            for setting, of in person.by_setting.items()
        ],
        "finest": {**_setting(finest), **_matrix(person.by_setting[finest].novelty)},
    }


def _matrix(novelty: Novelty) -> dict[str, JsonValue]:
    return {
        "likeness": [[number(value) for value in row] for row in novelty.likeness],
        "first": _profiles(novelty.first, novelty.novel_first),
        "second": _profiles(novelty.second, novelty.novel_second),
    }


def _profiles(profiles: Profiles, novel: Sequence[int]) -> JsonValue:
    return [
        {"cluster": int(label), "novel": int(label) in novel, "frequencies": [round(float(one), 6) for one in row]}
        for label, row in zip(profiles.labels, profiles.frequencies, strict=True)
    ]


def _comparison(comparison: Comparison) -> JsonValue:
    return {
        "people": comparison.people,
        "mean_difference": number(comparison.mean),
        "larger_in": comparison.better,
        "interval_95": [number(comparison.low), number(comparison.high)],
        "p_wilcoxon": number(comparison.p_wilcoxon),
        "p_bootstrap": number(comparison.p_bootstrap),
    }


def _row(person: PersonResult) -> list[str]:
    clusters, noise, novel = person.mean_clusters(), person.mean_noise(), person.mean_novel()
    return [
        person.person,
        str(person.frames),
        *(f"{value:.2f}" for value in clusters),
        *(f"{value:.0%}" for value in noise),
        *(f"{value:.2f}" for value in novel),
    ]


def _compared(comparison: Comparison) -> str:
    if comparison.people == 1:
        return f"{comparison.mean:+.2f}, one person"
    return (
        f"{comparison.mean:+.2f} [{comparison.low:+.2f}, {comparison.high:+.2f}], larger in {comparison.better} of "
        f"{comparison.people}; Wilcoxon p {comparison.p_wilcoxon:.2g}, bootstrap p {comparison.p_bootstrap:.2g}"
    )


def _novel(person: PersonResult, result: Result) -> list[str]:
    """Say which clusters are novel where there are most clusters."""
    finest, (first, second) = person.finest(), (model.name for model in result.plan.models)
    of, units = person.by_setting[finest], result.plan.coding.units
    heading = (
        f"{person.person}, eps {finest.eps:g}, min_samples {finest.min_samples} (most in both): "
        f"{of.clusters[0]} of {first}, {of.clusters[1]} of {second}"
    )
    found = [
        f"  novel: {name_of(model, label)}: {_seen(profiles, label, units)}"
        for model, profiles, novel in (
            (first, of.novelty.first, of.novelty.novel_first),
            (second, of.novelty.second, of.novelty.novel_second),
        )
        for label in novel
    ]
    return [heading, *(found or ["  none is novel"])]


def _seen(profiles: Profiles, label: int, units: Sequence[str]) -> str:
    """Name the action units that are often on in a cluster, the most frequent first."""
    (row,) = profiles.frequencies[profiles.labels == label]
    order = sorted(range(len(units)), key=lambda unit: -row[unit])[:_MOST_NAMED]
    often = [f"{units[unit]} {row[unit]:.2f}" for unit in order if row[unit] >= _OFTEN]
    return ", ".join(often) or f"no action unit in {_OFTEN:.0%} of the frames"
