"""How `psm-adapt people` shows models and clusters: in a table, as a tree, in figures, as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from psm_stream import people, people_clusters
from psm_stream.adaptation.layout import CHECKPOINT
from psm_stream.bundle import general_bundle, open_bundle
from psm_stream.errors import PsmError
from psm_stream.people import Model
from psm_stream.people_clusters import StoredClusters
from psm_stream.redact import printable


@dataclass(frozen=True, slots=True)
class Clusters:
    """Somebody's clusters as they lie in the store. stored: None if they are broken, and `why` says how."""

    person: str
    file: Path
    stored: StoredClusters | None
    why: str = ""

    @property
    def name(self) -> str:
        """As a list calls them."""
        return f"{self.person}/clusters"


def clusters_of(persons: Sequence[str]) -> list[Clusters]:
    """Read the clusters of those who have some."""
    found = []
    for person in filter(people.has_clusters, persons):
        file = people_clusters.file_of(person)
        try:
            found.append(Clusters(person, file, people_clusters.load(person)))
        except PsmError as error:
            found.append(Clusters(person, file, None, str(error)))
    return found


def counted(count: int, what: str) -> str:
    """Return "1 model", "2 models"."""
    return f"{count} {what}{'s' * (count != 1)}"


def names_of(models: Sequence[Model]) -> dict[str, str]:
    """How people call a model_id: general, ada/003."""
    general = open_bundle(general_bundle()).manifest
    names = {model.manifest.model_id: model.name for model in models}
    return {**names, general.model_id: people.GENERAL, str(general.training.get(CHECKPOINT)): people.GENERAL}


def parent_of(model: Model, names: Mapping[str, str]) -> str:
    """How people call the model that another was trained from, or its model_id."""
    return names.get(model.manifest.parent or "", model.manifest.parent or "nothing")


def table(models: Sequence[Model]) -> list[str]:
    """Return a line for each model, in columns."""
    names = names_of(models)
    rows = [
        (
            model.name,
            model.manifest.model_id,
            f"from {parent_of(model, names)}",
            _when(model.kept_at),
            f"{model.adaptation.frames} faces",
            f"loss {_losses(model)}",
            _size(model.size_bytes),
        )
        for model in models
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def clusters_line(clusters: Clusters) -> str:
    """Say in one line what is kept of somebody's clusters."""
    if clusters.stored is None:
        return f"{clusters.name}  BROKEN: {printable(clusters.why)}"
    stored, state = clusters.stored, clusters.file.stat()
    faces = counted(len(stored.rows), "face")
    what = [counted(len(stored.faces), "cluster"), f"{faces} kept", _when(state.st_mtime), _size(state.st_size)]
    return "  ".join([clusters.name, *what])


def tree(models: Sequence[Model], known: Sequence[Model]) -> list[str]:
    """Draw who descends from whom, below where the person's first models are from."""
    names = names_of(known)
    ids = {model.manifest.model_id for model in models}
    lines: list[str] = []
    for root in dict.fromkeys(one.manifest.parent for one in models if one.manifest.parent not in ids):
        lines.append(names.get(root or "", root or "nothing"))
        lines += _branches(models, root, "", frozenset())
    return lines


def _branches(models: Sequence[Model], parent: str | None, indent: str, above: frozenset[str | None]) -> list[str]:
    lines: list[str] = []
    children = [model for model in models if model.manifest.parent == parent and parent not in above]
    for child in children:
        is_last = child is children[-1]
        newest = "  (newest)" if child is models[-1] else ""
        loss = f"{child.adaptation.frames} faces, loss {_losses(child)}"
        mark, below = ("└─ ", "   ") if is_last else ("├─ ", "│  ")
        lines.append(f"{indent}{mark}{child.name}  {child.manifest.model_id}  {loss}{newest}")
        lines += _branches(models, child.manifest.model_id, indent + below, above | {parent})
    return lines


def figures(model: Model, names: Mapping[str, str]) -> list[str]:
    """Return all there is to say of a model, a line for each figure."""
    manifest, how = model.manifest, model.adaptation
    parity = manifest.parity
    return _columns(
        {
            "model": f"{model.name}, {manifest.model_id}, {manifest.precision}, from {parent_of(model, names)}",
            "kept": f"{_when(model.kept_at)}, {_size(model.size_bytes)} in {model.folder}",
            "training": f"recipe {how.recipe_name}, {how.frames} faces, {how.epochs} epochs, {how.seconds:.0f} s",
            "loss": _losses(model),
            "accepted": how.reason,
            "off its weights": f"by at most {parity.max_abs:g}, smallest cosine {parity.cosine:g}",
            "licence": manifest.licence,
            **{name: "none" if value is None else f"{value:.4g}" for name, value in how.figures.items()},
        }
    )


def clusters_figures(clusters: Clusters) -> list[str]:
    """Return all there is to say of somebody's clusters, a line for each."""
    if clusters.stored is None:
        return [clusters_line(clusters)]
    stored, state = clusters.stored, clusters.file.stat()
    kept = f"{counted(len(stored.rows), 'face')}, pictures of {clusters.person}"
    said = {
        "clusters": f"{len(stored.faces)}, by the codes of {stored.model_id or 'nothing'}",
        "kept": f"{kept}, {_when(state.st_mtime)}, {_size(state.st_size)} in {clusters.file}",
    }
    of_each = {
        f"cluster {cluster}": ", ".join([counted(count, "face"), *filter(None, [stored.names.get(cluster)])])
        for cluster, count in stored.faces.items()
    }
    return _columns({**said, **of_each})


def models_in_full(models: Sequence[Model]) -> list[dict[str, Any]]:
    """Return models as plain values."""
    return [
        {
            "name": model.name,
            "person": model.person,
            "number": model.number,
            "model_id": model.manifest.model_id,
            "parent": model.manifest.parent,
            "date": _date(model.kept_at),
            "recipe": model.adaptation.recipe_name,
            "frames": model.adaptation.frames,
            "epochs": model.adaptation.epochs,
            "loss_before": model.adaptation.loss_before,
            "loss_after": model.adaptation.loss_after,
            "figures": model.adaptation.figures,
            "precision": model.manifest.precision,
            "licence": model.manifest.licence,
            "size_bytes": model.size_bytes,
            "folder": str(model.folder),
        }
        for model in models
    ]


def clusters_in_full(clusters: Clusters) -> dict[str, Any]:
    """Return somebody's clusters as plain values."""
    if clusters.stored is None:
        return {"name": clusters.name, "broken": clusters.why}
    stored, state = clusters.stored, clusters.file.stat()
    return {
        "name": clusters.name,
        "person": clusters.person,
        "model_id": stored.model_id,
        "next_id": stored.next_id,
        "clusters": [
            {"cluster": cluster, "name": stored.names.get(cluster, ""), "faces": count}
            for cluster, count in stored.faces.items()
        ],
        "faces": len(stored.rows),
        "date": _date(state.st_mtime),
        "size_bytes": state.st_size,
        "file": str(clusters.file),
    }


def _columns(said: Mapping[str, str]) -> list[str]:
    width = max(map(len, said)) + 2
    return [f"{printable(name):<{width}}{printable(text)}" for name, text in said.items()]


def _date(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s).astimezone().isoformat(timespec="seconds")


def _when(unix_s: float) -> str:
    return f"{datetime.fromtimestamp(unix_s).astimezone():%Y-%m-%d %H:%M}"


def _losses(model: Model) -> str:
    before, after = model.adaptation.loss_before, model.adaptation.loss_after
    return "unknown" if before is None or after is None else f"{before:.4g} -> {after:.4g}"


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"
