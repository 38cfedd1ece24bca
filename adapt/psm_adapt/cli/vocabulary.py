"""psm-adapt vocabulary: make an expression vocabulary, train vectors of its tokens, and look at their neighbours."""

from __future__ import annotations

import json
import math
import shutil
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from psm_adapt.cli.evaluate_progress import Show, counted
from psm_adapt.data.ingest import IngestOptions, ingest
from psm_adapt.data.layouts import RecordingSource, sources_in
from psm_adapt.data.store import STORE, CropStore, open_store
from psm_adapt.evaluate.clips import Clip, clips_of
from psm_adapt.train.crops import layout_of
from psm_adapt.vocabulary.cooccurrence import WINDOW
from psm_adapt.vocabulary.glove import GloveSettings
from psm_adapt.vocabulary.making import FitSettings, Fitted, Trained, make_vocabulary, train
from psm_adapt.vocabulary.neighbours import BY, Neighbour, itself
from psm_adapt.vocabulary.tokens import tokens_of
from psm_adapt.vocabulary.tracks import RATE_HZ, Track, read_tracks, sampled, source_in
from psm_stream import people
from psm_stream.align.crops import check_takes_ours
from psm_stream.bundle import open_bundle
from psm_stream.cli.common import Parser, nearest, put
from psm_stream.clusters.units import Source
from psm_stream.clusters.vocabulary import FEATURES, SPECIAL, Feature, Vocabulary, read_vocabulary, write_vocabulary
from psm_stream.encoder import Encoder, open_encoder
from psm_stream.errors import ConfigError
from psm_stream.models import FACE_LANDMARKER
from psm_stream.sources.images import SUFFIXES

_INPUTS = "INPUT is a video, a folder of videos or images, a session recorded by psm-stream, or a crop store."
_EPILOG = f"""\
verbs: fit, train, neighbours; psm-adapt vocabulary VERB --help says more
{_INPUTS}
Exit codes: 0 done; 1 it failed; 2 wrong arguments; 130 interrupted, and nothing was written."""
_MOST_USED = 12
"""Tokens that are shown where none is named."""


def job(arguments: Sequence[str]) -> int:
    """Do what the verb says. Returns the exit code. Raises PsmError: it cannot be done."""
    if not arguments or arguments[0].startswith("-"):
        Parser("psm-adapt vocabulary", "Vocabularies of expressions.", "psm-adapt vocabulary VERB", _EPILOG).parse(
            arguments or ["--help"]
        )
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        raise ConfigError(f"unknown verb {verb!r} of psm-adapt vocabulary{nearest(verb, list(VERBS))}")
    try:
        return VERBS[verb](rest)
    except KeyboardInterrupt:
        put("stopped; nothing was written", sys.stderr)
        raise


def _fit(arguments: Sequence[str]) -> int:
    parser = _parser("fit", "Make a vocabulary: cluster what faces do, and number the clusters.")
    parser.add_argument("--size", metavar="K", default="100", help="how many centres; default 100")
    parser.add_argument("--features", metavar="WHAT", default="units", help="units (default) or embedding")
    parser.add_argument("--max-distance", metavar="X", help="farther from its centre is <unk>; default: 1 %% of faces")
    parser.add_argument(
        "--min-count", metavar="N", help="centres with fewer faces are <unk>; default: a tenth of the mean"
    )
    parser.add_argument("--rate", metavar="HZ", default=f"{RATE_HZ:g}", help=f"faces a second; default {RATE_HZ:g}")
    given = parser.parse(arguments)
    feature = _feature(given.features)
    settings = FitSettings(
        size=_whole("--size", given.size, 1),
        feature=feature,
        limit=None if given.max_distance is None else _number("--max-distance", given.max_distance),
        min_count=None if given.min_count is None else _whole("--min-count", given.min_count, 0),
        rate_hz=_number("--rate", given.rate),
        seed=_whole("--seed", given.seed, 0),
    )
    out = _out(given)
    encoder = _encoder(given.model) if feature == "embedding" else None
    began = time.monotonic()
    with Show(given.quiet) as show, _clips(given, show) as clips:
        source = source_in(clips)
        tracks = _tracks(clips, source, encoder, settings.rate_hz, show)
        show.begin(f"finding {settings.size} centres of {sum(map(len, tracks))} faces", None)
        fitted = make_vocabulary(tracks, source, "" if encoder is None else encoder.model_id, settings)
        write_vocabulary(out, fitted.vocabulary)
    put(_fit_in_words(out, fitted, time.monotonic() - began))
    return 0


def _train(arguments: Sequence[str]) -> int:
    parser = _parser("train", "Train a vector for each token by the tokens around it (GloVe).")
    parser.add_argument("--vocabulary", metavar="FILE", required=True, help="what fit wrote")
    parser.add_argument(
        "--dimensions", metavar="D", default="25", help="of the vectors, published 25 to 200; default 25"
    )
    parser.add_argument("--window", metavar="N", default=str(WINDOW), help=f"faces each side; default {WINDOW}")
    parser.add_argument("--iterations", metavar="N", default="1000", help="default 1000")
    parser.add_argument("--rate", metavar="X", default="0.05", help="AdaGrad's learning rate; default 0.05")
    given = parser.parse(arguments)
    settings = GloveSettings(
        dimensions=_whole("--dimensions", given.dimensions, 1),
        iterations=_whole("--iterations", given.iterations, 1),
        rate=_number("--rate", given.rate),
        seed=_whole("--seed", given.seed, 0),
    )
    window = _whole("--window", given.window, 1)
    vocabulary = read_vocabulary(Path(given.vocabulary))
    if Path(given.out).resolve() == Path(given.vocabulary).resolve():
        raise ConfigError(f"--out {given.out} is the --vocabulary itself, which stays as it is; name another --out")
    out = _out(given)
    encoder = _encoder_for(vocabulary, given.model)
    began = time.monotonic()
    with Show(given.quiet) as show, _clips(given, show, vocabulary) as clips:
        source = _source_for(vocabulary, clips)
        tracks = _tracks(clips, source, encoder, json.loads(vocabulary.about)["rate_hz"], show)
        show.begin("training vectors", settings.iterations)
        trained = train(tracks, vocabulary, settings, lambda _, __: show.advance(1), window)
        write_vocabulary(out, trained.vocabulary)
    put(_train_in_words(out, trained, time.monotonic() - began))
    return 0


def _neighbours(arguments: Sequence[str]) -> int:
    parser = Parser("psm-adapt vocabulary neighbours", "Show the expressions nearest to one.")
    parser.add_argument("file", metavar="FILE", help="what train or fit wrote")
    parser.add_argument(
        "expression", metavar="TOKEN|IMAGE", nargs="?", help=f"default: the {_MOST_USED} most used tokens, one by one"
    )
    parser.add_argument("--by", metavar="HOW", help=f"{' or '.join(BY)}; default: vectors where there are any")
    parser.add_argument("--count", metavar="N", default="5", help="how many; default 5")
    parser.add_argument("--model", metavar="MODEL", default=people.GENERAL, help=_MODEL)
    parser.add_argument("--landmarker", metavar="PATH", help="model for blendshapes; default: what psm-doctor fetched")
    parser.add_argument("--json", action="store_true", help="as JSON")
    given = parser.parse(arguments)
    vocabulary = read_vocabulary(Path(given.file))
    by = given.by or ("vectors" if vocabulary.vector_tokens else "centres")
    if by not in BY:
        raise ConfigError(f"--by {by!r}{nearest(by, list(BY))}")
    count = _whole("--count", given.count, 1)
    tokens = _asked_for(given, vocabulary)
    found = [(itself(vocabulary, token), BY[by](vocabulary, token, count)) for token in tokens]
    if given.json:
        put(
            json.dumps(
                [{**_plain(one), "neighbours": [_plain(other) for other in near]} for one, near in found], indent=2
            )
        )
        return 0
    put("\n\n".join("\n".join([_row(one), *(f"  {_row(other, by)}" for other in near)]) for one, near in found))
    return 0


VERBS: dict[str, Callable[[Sequence[str]], int]] = {"fit": _fit, "train": _train, "neighbours": _neighbours}
_MODEL = "encoder: general (default), person:NAME, person:NAME/NNN, or a bundle's folder"


def _parser(verb: str, description: str) -> Parser:
    parser = Parser(f"psm-adapt vocabulary {verb}", description, epilog=_INPUTS)
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="what shows faces")
    parser.add_argument("--out", metavar="FILE", required=True, help="the vocabulary that is written, a .npz")
    parser.add_argument("--force", action="store_true", help="write over a --out that is there")
    parser.add_argument("--model", metavar="MODEL", default=people.GENERAL, help=_MODEL)
    parser.add_argument(
        "--landmarker",
        metavar="PATH",
        nargs="?",
        const=str(FACE_LANDMARKER.path()),
        help="measure units by the Face Landmarker's blendshapes; default: what psm-doctor fetched",
    )
    parser.add_argument("--seed", metavar="N", default="0", help="of everything random; default 0")
    parser.add_argument("--quiet", action="store_true", help="print the result and what went wrong only")
    return parser


def _out(given: Namespace) -> Path:
    """Return where to write, before hours of work. Raises ConfigError: what is there would be lost."""
    out = Path(given.out)
    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder; name a file, such as {out / 'vocabulary.npz'}")
    if out.exists() and not given.force:
        raise ConfigError(f"--out {out} exists; name another file, or give --force to write over it")
    return out


@contextmanager
def _clips(given: Namespace, show: Show, vocabulary: Vocabulary | None = None) -> Iterator[list[Clip]]:
    """Give the recordings of all inputs. What is no crop store is made one, for as long as this is open."""
    places = [Path(place) for place in given.inputs]
    stores = [open_store(place) for place in places if (place / STORE).is_file()]
    rest = [place for place in places if not (place / STORE).is_file()]
    with _store(_sources(rest), _landmarker(given.landmarker, vocabulary), show) as made:
        yield clips_of([*stores, *made])


def _sources(places: Sequence[Path]) -> list[RecordingSource]:
    """Find recordings. Of several places they are named by the place's number, too, as two may be called alike."""
    found = [sources_in([place], layout_of(place)) for place in places]
    if len(found) == 1:
        return found[0]
    return [replace(one, name=f"input {n}/{one.name}") for n, some in enumerate(found, 1) for one in some]


@contextmanager
def _store(sources: Sequence[RecordingSource], landmarker: Path | None, show: Show) -> Iterator[list[CropStore]]:
    if not sources:
        yield []
        return
    with tempfile.TemporaryDirectory(prefix="psm-adapt-") as passing:
        yield [ingest(sources, Path(passing, "crops"), IngestOptions(landmarker=landmarker), show.of_crops()).store]


def _landmarker(given: str | None, vocabulary: Vocabulary | None) -> Path | None:
    if given is not None:
        return Path(given)
    needs = vocabulary is not None and vocabulary.source == "blendshapes"
    return FACE_LANDMARKER.path() if needs else None


def _tracks(clips: Sequence[Clip], source: Source, encoder: Encoder | None, rate_hz: float, show: Show) -> list[Track]:
    some = sampled(clips, rate_hz)
    faces = sum(map(len, some))
    show.begin(f"{'measuring' if encoder is None else 'encoding'} {faces} faces; units from {source}", faces)
    return read_tracks(some, source, encoder, show.advance)


def _asked_for(given: Namespace, vocabulary: Vocabulary) -> list[str]:
    """Return the tokens to show: the one named, that of an image, or the most used ones."""
    if given.expression is None:
        return [vocabulary.token(n) for n in np.flatnonzero(vocabulary.is_word)[:_MOST_USED]]
    image = Path(given.expression)
    if image.suffix.lower() not in SUFFIXES:
        return [given.expression]
    if not image.is_file():
        raise ConfigError(f"there is no image {image}; give one, or a token such as c0")
    encoder = _encoder_for(vocabulary, given.model)
    with tempfile.TemporaryDirectory(prefix="psm-adapt-") as passing, Show(is_quiet=True) as show:
        shutil.copy(image, passing)
        source = RecordingSource(image.name, image.name, "images", Path(passing))
        with _store([source], _landmarker(given.landmarker, vocabulary), show) as stores:
            clips = clips_of(stores)
            tracks = _tracks(clips, _source_for(vocabulary, clips), encoder, RATE_HZ, show)
    token = tokens_of(tracks[0], vocabulary)[1]
    if not given.json:
        put(f"{image} is {token}")
    return [token]


def _source_for(vocabulary: Vocabulary, clips: Sequence[Clip]) -> Source:
    """Return what units are measured from: as the vocabulary was, or what there is, where they only describe."""
    return (
        "blendshapes" if vocabulary.source == "blendshapes" else "landmarks" if vocabulary.source else source_in(clips)
    )


def _encoder(model: str) -> Encoder:
    folder = Path(people.base_named(model))
    if not folder.is_dir():
        raise ConfigError(f"--model {model!r} is no folder{nearest(model, [people.GENERAL])}")
    bundle = open_bundle(folder)
    check_takes_ours(bundle.manifest, f"--model {model}, for the crops of a store")
    return open_encoder(bundle)


def _encoder_for(vocabulary: Vocabulary, model: str) -> Encoder | None:
    """Open the encoder of a vocabulary; None: it needs none. Raises ConfigError: `model` is another."""
    if vocabulary.feature == "units":
        return None
    encoder = _encoder(model)
    if encoder.model_id != vocabulary.model_id:
        raise ConfigError(f"the vocabulary is of model {vocabulary.model_id}; --model {model} is {encoder.model_id}")
    return encoder


def _feature(text: str) -> Feature:
    for feature in FEATURES:
        if text == feature:
            return feature
    raise ConfigError(f"--features {text!r}{nearest(text, FEATURES)}")


def _whole(option: str, text: str, least: int) -> int:
    if not (text.isascii() and text.isdigit() and int(text) >= least):
        raise ConfigError(f"{option} {text!r}: expected a whole number from {least}")
    return int(text)


def _number(option: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ConfigError(f"{option} {text!r}: expected a number above 0")
    return value


def _fit_in_words(out: Path, fitted: Fitted, seconds: float) -> str:
    made, about = fitted.vocabulary, json.loads(fitted.vocabulary.about)
    faces = len(fitted.distances)
    unknown = faces - int(made.counts[made.is_word].sum())
    what = f"units from {made.source}" if made.feature == "units" else f"embeddings of {made.model_id}"
    left_out = f", {fitted.left_out} left out that lack a unit" if fitted.left_out else ""
    return (
        f"{out}: {int(made.is_word.sum())} tokens of {len(made)} centres, by {what}; "
        f"{counted(about['people'], 'person', 'people')}, {counted(about['recordings'], 'recording')}, "
        f"{counted(faces, 'face')}{left_out}, of which {unknown / faces:.1%} are <unk> "
        f"(farther than {made.limit:.4g}, or a centre with fewer than {made.min_count}); "
        f"mean distance {fitted.distances.mean():.4g}, {seconds:.0f} s"
    )


def _train_in_words(out: Path, trained: Trained, seconds: float) -> str:
    made = trained.vocabulary
    shares = dict(zip(made.vector_tokens, made.vector_counts / trained.tokens, strict=True))
    words = sum(token not in SPECIAL for token in made.vector_tokens)
    return (
        f"{out}: vectors of {made.vectors.shape[1]} dimensions for {words} of {int(made.is_word.sum())} tokens; "
        f"{trained.tokens} tokens read, {shares.get('<unk>', 0.0):.1%} of them <unk>; loss "
        f"{trained.losses[0]:.4g} -> {trained.losses[-1]:.4g}, {seconds:.0f} s"
    )


def _row(one: Neighbour, by: str = "") -> str:
    profile = ", ".join(f"{unit} {value:+.1f}" for unit, value in one.profile)
    faces = "" if one.faces is None else f"{one.faces} faces"
    nearness = "" if not by else f"{one.nearness if by == 'vectors' else -one.nearness:.2f}"
    return "  ".join(filter(None, [f"{one.token:<7}", nearness, faces, profile])).rstrip()


def _plain(one: Neighbour) -> dict[str, object]:
    return {"token": one.token, "nearness": one.nearness, "faces": one.faces, "profile": dict(one.profile)}
