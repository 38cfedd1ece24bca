"""psm-adapt people: list, show, export, import, delete and verify people's models."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from psm_stream import people, people_keep
from psm_stream.adaptation.layout import CHECKPOINT
from psm_stream.bundle import general_bundle, open_bundle
from psm_stream.cli.common import Parser, nearest, put
from psm_stream.errors import ConfigError, PsmError
from psm_stream.people import Model
from psm_stream.people_archive import Found, pack, unpacked
from psm_stream.sources.redact import printable

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
    parser = Parser("psm-adapt people", "List people's models.", _USAGE, _EPILOG)
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse(arguments)
    models, broken = people.readable()
    if options.json:
        _put_json([*_in_full(models), *({"name": name, "broken": why} for name, why in broken)])
        return 0
    names = _names(models)
    rows = [_row(model, names) for model in models]
    if rows:
        put(_table(rows))
    elif broken:
        put(f"no whole models in {people.home() / 'people'}")
    else:
        put(f"no models in {people.home() / 'people'}; psm-stream --person NAME makes them")
    for name, why in broken:
        person, _, number = name.partition("/")
        put(f"{name}  BROKEN: {printable(why)}; psm-adapt people delete {person} --model {number} removes it")
    return int(bool(broken) and not rows)


def _show(arguments: Sequence[str]) -> int:
    parser = _parser("show", "Show a person's models as a tree, and the figures of one, the newest by default.")
    parser.add_argument("person", metavar="NAME")
    parser.add_argument("--model", metavar="NNN", type=_number, help="the model whose figures are shown")
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse(arguments)
    chosen = people.model_of(options.person, options.model)
    known, _ = people.readable()
    theirs = [model for model in known if model.person == options.person]
    if options.json:
        ancestors = [model.name for model in people.lineage(chosen, known)]
        _put_json({"model": _in_full([chosen])[0], "ancestors": ancestors, "models": _in_full(theirs)})
        return 0
    put("\n".join([*_tree(theirs, known), "", *_figures(chosen, _names(known))]))
    return 0


def _export(arguments: Sequence[str]) -> int:
    parser = _parser("export", "Write a person's models to a zip or folder, which `import` reads on another computer.")
    parser.add_argument("person", metavar="NAME")
    parser.add_argument("--model", metavar="NNN", type=_number, help="one model; default: all of them")
    parser.add_argument("--out", required=True, metavar="FILE.zip|DIR")
    options = parser.parse(arguments)
    out = Path(options.out)
    models = _models(options)
    pack(models, out)
    put(f"{out}: {_counted(len(models))} of {options.person}; psm-adapt people import {out} reads it")
    return 0


def _import(arguments: Sequence[str]) -> int:
    parser = _parser(
        "import", "Take in models that `export` wrote. Each is checked, and gets the person's next number."
    )
    parser.add_argument("place", metavar="FILE.zip|DIR", help="what `export` or `psm-adapt finetune` wrote")
    parser.add_argument("--person", metavar="NAME", help="call the person so here; default: as they are called there")
    options = parser.parse(arguments)
    with unpacked(Path(options.place)) as found:
        if options.person and len({one.person for one in found}) > 1:
            raise ConfigError(f"--person: {options.place} holds models of several people; leave it away")
        for one in found:
            _check_whole(one.folder)  # all of them, before any is kept
        for one in found:
            put(_taken(one, options.person or one.person))
    return 0


def _delete(arguments: Sequence[str]) -> int:
    parser = _parser("delete", "Delete a person's models for good.")
    parser.add_argument("person", metavar="NAME")
    parser.add_argument("--model", metavar="NNN", type=_number, help="one model; default: everything of the person")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    options = parser.parse(arguments)
    known = people.numbers(options.person)
    if not (people.is_there(options.person) if options.model is None else options.model in known):
        people.model_of(options.person, options.model)  # says what there is
    what = f"model {options.model:03d}" if options.model is not None else f"all {_counted(len(known))}"
    if not options.yes and not _agreed(f"delete {what} of {options.person} for good?"):
        put("nothing was deleted")
        return 1
    gone = people_keep.delete(options.person, options.model)
    for folder in gone or [people.home() / "people" / options.person]:
        put(f"deleted {folder}")
    return 0


def _verify(arguments: Sequence[str]) -> int:
    parser = _parser("verify", "Check models: digests, weights, that the encoder runs, and where they descend from.")
    parser.add_argument("person", metavar="NAME", nargs="?", help="default: everybody")
    options = parser.parse(arguments)
    if options.person is not None and not people.numbers(options.person):
        people.model_of(options.person)  # says whose there are
    known, _ = people.readable()
    names = _names(known)
    whole = 0
    for person in people.everyone() if options.person is None else [options.person]:
        for number in people.numbers(person):
            try:
                model = people.model_of(person, number)
                _check_whole(model.folder)
                people.lineage(model, known)
            except PsmError as error:
                put(f"{person}/{number:03d} is broken: {printable(str(error))}", sys.stderr)
                return 1
            whole += 1
            if _parent(model, names) == model.manifest.parent:
                put(f"{model.name} descends from {model.manifest.parent}, which is not kept here")
    put(f"{_counted(whole)} checked, nothing is broken")
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


def _models(options: Namespace) -> list[Model]:
    if options.model is not None or not people.numbers(options.person):
        return [people.model_of(options.person, options.model)]
    return [people.model_of(options.person, number) for number in people.numbers(options.person)]


def _check_whole(folder: Path) -> None:
    """Check a model down to its numbers. Raises BundleError, AdaptationError: it is damaged."""
    from psm_adapt.checkpoint import open_checkpoint  # torch, which a list does without
    from psm_stream.encoder import open_encoder

    people_keep.check(folder)
    open_encoder(open_bundle(folder), "cpu").warm_up(1)
    open_checkpoint(folder / CHECKPOINT).networks()


def _taken(one: Found, person: str) -> str:
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


def _names(models: Sequence[Model]) -> dict[str, str]:
    """How people call a model_id: general, ada/003."""
    general = open_bundle(general_bundle()).manifest
    names = {model.manifest.model_id: model.name for model in models}
    return {**names, general.model_id: people.GENERAL, str(general.training.get(CHECKPOINT)): people.GENERAL}


def _parent(model: Model, names: dict[str, str]) -> str:
    return names.get(model.manifest.parent or "", model.manifest.parent or "nothing")


def _row(model: Model, names: dict[str, str]) -> tuple[str, ...]:
    return (
        model.name,
        model.manifest.model_id,
        f"from {_parent(model, names)}",
        f"{_when(model):%Y-%m-%d %H:%M}",
        f"{model.adaptation.frames} faces",
        f"loss {_losses(model)}",
        _size(model.size_bytes),
    )


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _tree(models: Sequence[Model], known: Sequence[Model]) -> list[str]:
    """Draw who descends from whom, below where the person's first models are from."""
    names = _names(known)
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


def _figures(model: Model, names: dict[str, str]) -> list[str]:
    manifest, how = model.manifest, model.adaptation
    parity = manifest.parity
    said = {
        "model": f"{model.name}, {manifest.model_id}, {manifest.precision}, from {_parent(model, names)}",
        "kept": f"{_when(model):%Y-%m-%d %H:%M}, {_size(model.size_bytes)} in {model.folder}",
        "training": f"recipe {how.recipe_name}, {how.frames} faces, {how.epochs} epochs, {how.seconds:.0f} s",
        "loss": _losses(model),
        "accepted": how.reason,
        "off its weights": f"by at most {parity.max_abs:g}, smallest cosine {parity.cosine:g}",
        "licence": manifest.licence,
        **{name: "none" if value is None else f"{value:.4g}" for name, value in how.figures.items()},
    }
    width = max(map(len, said)) + 2
    return [f"{printable(name):<{width}}{printable(text)}" for name, text in said.items()]


def _in_full(models: Sequence[Model]) -> list[dict[str, Any]]:
    return [
        {
            "name": model.name,
            "person": model.person,
            "number": model.number,
            "model_id": model.manifest.model_id,
            "parent": model.manifest.parent,
            "date": _when(model).isoformat(timespec="seconds"),
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


def _put_json(value: Any) -> None:
    put(json.dumps(value, indent=1))


def _when(model: Model) -> datetime:
    return datetime.fromtimestamp(model.kept_at).astimezone()


def _losses(model: Model) -> str:
    before, after = model.adaptation.loss_before, model.adaptation.loss_after
    return "unknown" if before is None or after is None else f"{before:.4g} -> {after:.4g}"


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"


def _counted(models: int) -> str:
    return f"{models} model{'s' * (models != 1)}"
