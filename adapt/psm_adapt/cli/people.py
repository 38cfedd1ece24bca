"""psm-adapt people: list, show, export, import, delete and verify people's models and clusters."""

from __future__ import annotations

import filecmp
import json
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from psm_adapt.cli.people_shown import (
    clusters_figures,
    clusters_in_full,
    clusters_line,
    clusters_of,
    counted,
    figures,
    models_in_full,
    names_of,
    parent_of,
    table,
    tree,
)
from psm_stream import people, people_clusters, people_keep
from psm_stream.adaptation.layout import CHECKPOINT
from psm_stream.bundle import open_bundle
from psm_stream.cli.common import Parser, nearest, put
from psm_stream.errors import ConfigError, PsmError
from psm_stream.people import Model
from psm_stream.people_archive import Contents, Found, pack, unpacked
from psm_stream.redact import printable

_USAGE = "psm-adapt people [VERB] [OPTIONS]"
_EPILOG = "verbs: list (the default), show NAME, export NAME, import PLACE, delete NAME, verify [NAME]"


def job(arguments: Sequence[str]) -> int:
    """Do what the verb says. Returns the exit code. Raises PsmError: it cannot be done."""
    if not arguments or arguments[0].startswith("-"):
        return _list(arguments)
    verb, *rest = arguments
    if verb not in VERBS:
        raise ConfigError(f"unknown verb {verb!r} of psm-adapt people{nearest(verb, list(VERBS))}")
    return VERBS[verb](rest)


def _list(arguments: Sequence[str]) -> int:
    parser = Parser("psm-adapt people", "List people's models and clusters.", _USAGE, _EPILOG)
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse(arguments)
    models, broken = people.readable()
    clusters = clusters_of(people.everyone())
    if options.json:
        said = [{"name": name, "broken": why} for name, why in broken]
        _put_json([*models_in_full(models), *said, *map(clusters_in_full, clusters)])
        return 0
    is_whole = bool(models) or any(one.stored for one in clusters)
    place = people.home() / "people"
    if models:
        put("\n".join(table(models)))
    elif broken:
        put(f"no whole models in {place}")
    elif not clusters:
        put(f"no models in {place}; psm-stream --person NAME makes them")
    for name, why in broken:
        person, _, number = name.partition("/")
        put(f"{name}  BROKEN: {printable(why)}; psm-adapt people delete {person} --model {number} removes it")
    for one in clusters:
        put(clusters_line(one))
    return int(bool(broken or clusters) and not is_whole)


def _show(arguments: Sequence[str]) -> int:
    parser = _parser(
        "show", "Show a person's models as a tree, the figures of one, the newest by default, and their clusters."
    )
    parser.add_argument("person", metavar="NAME")
    parser.add_argument("--model", metavar="NNN", type=_number, help="the model whose figures are shown")
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse(arguments)
    clusters = clusters_of([options.person])
    needs_model = not clusters or options.model is not None or people.numbers(options.person)
    chosen = people.model_of(options.person, options.model) if needs_model else None
    known, _ = people.readable()
    theirs = [model for model in known if model.person == options.person]
    is_broken = int(any(one.stored is None for one in clusters))
    if options.json:
        _put_json(
            {
                "model": models_in_full([chosen])[0] if chosen else None,
                "ancestors": [model.name for model in people.lineage(chosen, known)] if chosen else [],
                "models": models_in_full(theirs),
                "clusters": clusters_in_full(clusters[0]) if clusters else None,
            }
        )
        return is_broken
    parts = [tree(theirs, known), figures(chosen, names_of(known))] if chosen else []
    parts += map(clusters_figures, clusters)
    put("\n\n".join("\n".join(lines) for lines in parts))
    return is_broken


def _export(arguments: Sequence[str]) -> int:
    parser = _parser(
        "export",
        "Write a person's models and clusters to a zip or folder, which `import` reads on another computer. "
        "Clusters are pictures of the person.",
    )
    parser.add_argument("person", metavar="NAME")
    parser.add_argument("--model", metavar="NNN", type=_number, help="one model, and no clusters; default: all of them")
    parser.add_argument("--models-only", action="store_true", help="no clusters, so no pictures")
    parser.add_argument("--out", required=True, metavar="FILE.zip|DIR")
    options = parser.parse(arguments)
    out = Path(options.out)
    models, clusters, said = _chosen(options)
    pack(models, out, clusters)
    put(f"{out}: {said} of {options.person}; psm-adapt people import {out} reads it")
    return 0


def _import(arguments: Sequence[str]) -> int:
    parser = _parser(
        "import",
        "Take in models and clusters that `export` wrote. Each is checked; a model gets the person's next number.",
    )
    parser.add_argument("place", metavar="FILE.zip|DIR", help="what `export` or `psm-adapt finetune` wrote")
    parser.add_argument("--person", metavar="NAME", help="call the person so here; default: as they are called there")
    options = parser.parse(arguments)
    with unpacked(Path(options.place)) as contents:
        if options.person and len({one.person for one in contents.models} | contents.clusters.keys()) > 1:
            raise ConfigError(f"--person: {options.place} holds models of several people; leave it away")
        for line in _taken(contents, options.person):
            put(line)
    return 0


def _delete(arguments: Sequence[str]) -> int:
    parser = _parser("delete", "Delete a person's models and clusters for good.")
    parser.add_argument("person", metavar="NAME")
    parser.add_argument("--model", metavar="NNN", type=_number, help="one model; default: everything of the person")
    parser.add_argument("--clusters", action="store_true", help="the clusters, and no model")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    options = parser.parse(arguments)
    what = _doomed(options)
    if not options.yes and not _agreed(f"delete {what} of {options.person} for good?"):
        put("nothing was deleted")
        return 1
    gone = [people_clusters.file_of(options.person)] if people.has_clusters(options.person) else []
    if options.clusters:
        people_clusters.delete(options.person)
    elif options.model is not None:
        gone = people_keep.delete(options.person, options.model)
    else:
        gone = [*people_keep.delete(options.person), *gone]
    for path in gone or [people.home() / "people" / options.person]:
        put(f"deleted {path}")
    return 0


def _verify(arguments: Sequence[str]) -> int:
    parser = _parser(
        "verify", "Check models: digests, weights, that the encoder runs, and where they descend from; and clusters."
    )
    parser.add_argument("person", metavar="NAME", nargs="?", help="default: everybody")
    options = parser.parse(arguments)
    if options.person is not None and options.person not in people.everyone():
        people.model_of(options.person)  # says whose there are
    persons = people.everyone() if options.person is None else [options.person]
    known, _ = people.readable()
    names = names_of(known)
    whole = 0
    for person in persons:
        for number in people.numbers(person):
            try:
                model = people.model_of(person, number)
                _check_whole(model.folder)
                people.lineage(model, known)
            except PsmError as error:
                put(f"{person}/{number:03d} is broken: {printable(str(error))}", sys.stderr)
                return 1
            whole += 1
            if parent_of(model, names) == model.manifest.parent:
                put(f"{model.name} descends from {model.manifest.parent}, which is not kept here")
    clusters = clusters_of(persons)
    for one in clusters:
        if one.stored is None:
            put(f"{one.name} is broken: {printable(one.why)}", sys.stderr)
            return 1
    also = f" and the clusters of {counted(len(clusters), 'person')}" if clusters else ""
    put(f"{counted(whole, 'model')}{also} checked, nothing is broken")
    return 0


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "list": _list,
    "show": _show,
    "export": _export,
    "import": _import,
    "delete": _delete,
    "verify": _verify,
}


def _parser(verb: str, description: str) -> Parser:
    return Parser(f"psm-adapt people {verb}", description)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(f"--model {text}: a model is named by its number, such as 003")
    return int(text)


def _chosen(options: Namespace) -> tuple[list[Model], dict[str, Path], str]:
    """What is exported: models, the file of clusters by person, and both in words."""
    person = options.person
    if options.model is not None:
        return [people.model_of(person, options.model)], {}, "1 model"
    stored = None if options.models_only else people_clusters.load(person)
    if not people.numbers(person) and stored is None:
        people.model_of(person)  # says whose there are
    models = [people.model_of(person, number) for number in people.numbers(person)]
    if stored is None:
        return models, {}, counted(len(models), "model")
    said = f"{counted(len(models), 'model')}, and clusters with {counted(len(stored.rows), 'picture')}"
    return models, {person: people_clusters.file_of(person)}, said


def _doomed(options: Namespace) -> str:
    """Say what is to be deleted. Raises ConfigError: it is not there."""
    person, known = options.person, people.numbers(options.person)
    has_clusters = people.has_clusters(person)
    if options.clusters:
        if options.model is not None:
            raise ConfigError("--clusters deletes no model; give --model or --clusters, or neither for everything")
        if not has_clusters:
            raise ConfigError(f"{person} has no clusters{nearest(person, _with_clusters(person))}")
        return "the clusters"
    if not (people.is_there(person) if options.model is None else options.model in known):
        people.model_of(person, options.model)  # says what there is
    if options.model is not None:
        return f"model {options.model:03d}"
    return f"all {counted(len(known), 'model')}{' and the clusters' * has_clusters}"


def _with_clusters(but: str) -> list[str]:
    return [person for person in people.everyone() if people.has_clusters(person) and person != but]


def _check_whole(folder: Path) -> None:
    """Check a model down to its numbers. Raises BundleError, AdaptationError: it is damaged."""
    from psm_adapt.checkpoint import open_checkpoint  # torch, which a list does without
    from psm_stream.encoder import open_encoder

    people_keep.check(folder)
    open_encoder(open_bundle(folder), "cpu").warm_up(1)
    open_checkpoint(folder / CHECKPOINT).networks()


def _taken(contents: Contents, person: str | None) -> list[str]:
    """Keep what an archive holds, all of it checked before anything is kept. Returns what was done, in words."""
    for one in contents.models:
        _check_whole(one.folder)
    clusters = {name: people_clusters.read(file) for name, file in contents.clusters.items()}
    said = [_model_taken(one, person or one.person) for one in contents.models]
    for name, stored in clusters.items():
        here = person or name
        if not people.has_clusters(here):
            people_clusters.save(here, stored)
            said.append(f"the clusters of {name} are those of {here} now")
        elif filecmp.cmp(people_clusters.file_of(here), contents.clusters[name], shallow=False):
            said.append(f"the clusters of {name} are those of {here} already")
        else:
            said.append(
                f"the clusters of {name} were left: {here} has others; "
                f"psm-adapt people delete {here} --clusters makes room for them"
            )
    return said


def _model_taken(one: Found, person: str) -> str:
    """Keep a checked model of an archive, unless it is there. Returns what was done, in words."""
    model_id = open_bundle(one.folder).manifest.model_id
    came = f"{one.person}/{one.number:03d}" if one.folder.name.isdigit() else f"the model of {one.person}"
    for number in people.numbers(person):
        if people.model_of(person, number).manifest.model_id == model_id:
            return f"{came} is {person}/{number:03d} already"
    folder = people_keep.keep_files(person, people_keep.files_of(one.folder))
    return f"{came} is {person}/{folder.name} now"


def _agreed(question: str) -> bool:
    """Ask on the terminal. Raises ConfigError: there is nobody to ask."""
    if not sys.stdin.isatty():
        raise ConfigError("nobody to ask whether to delete; give --yes")
    put(f"{question} [y/N] ", end="")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _put_json(value: Any) -> None:
    put(json.dumps(value, indent=1))
