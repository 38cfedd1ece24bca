"""psm-replay: run a recorded session again: publish it, verify it, export it, report on it, or repeat its trainings."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from psm_stream import config
from psm_stream.cli.common import UNTRAINED, Parser, put, run
from psm_stream.errors import ConfigError

if TYPE_CHECKING:
    from psm_stream.encoder import Encoder
    from psm_stream.record.reader import Session
    from psm_stream.rerun import Rerun
    from psm_stream.verify import Verdict

_CHOICES = {
    "export": ("parquet", "csv"),
    "adapt": ("rerun",),
    "pace": ("live", "fast"),
    "device": ("cpu", "cuda", "tensorrt", "auto"),
    "header": ("msgpack", "json"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit code."""
    return run(_replay, argv)


def _parser() -> Parser:
    parser = Parser(
        "psm-replay", "Run a recorded session again. Without --verify, --export, --report or --adapt it is published."
    )
    parser.add_argument("session", metavar="SESSION", help="session folder, <root>/<date>/<number>")
    parser.add_argument("--verify", action="store_true", help="recompute everything and compare with what was recorded")
    parser.add_argument("--export", metavar="FORMAT", help="write tables: parquet or csv")
    parser.add_argument("--report", action="store_true", help="write one HTML page about what the face did")
    parser.add_argument(
        "--out", metavar="PATH", help="folder of the tables, or file of the report; default: the session's exports/NNN"
    )
    parser.add_argument(
        "--adapt", metavar="rerun", help="repeat every recorded training and say how far its model is from the recorded"
    )
    parser.add_argument("--pace", default="live", help="live (as recorded, the default) or fast")
    parser.add_argument("--device", help="cpu, cuda, tensorrt or auto; default: as recorded, if it is there")
    parser.add_argument("--bind", default="127.0.0.1", help="address to publish on; default: this machine only")
    parser.add_argument("--control-port", metavar="N", default="50120", help="control port, or auto")
    parser.add_argument("--header", help="msgpack or json; default: as recorded")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    parser.add_argument("--quiet", action="store_true", help="print the outcome and errors only")
    return parser


def _replay(argv: Sequence[str]) -> int:
    arguments = _parser().parse(argv)
    _check(arguments)
    from psm_stream.record.reader import Session  # after the arguments are known to be good: these imports cost time

    session = Session(Path(arguments.session))
    tell = _teller(arguments.quiet)
    tell(_introduction(session))
    if not (arguments.verify or arguments.export or arguments.report or arguments.adapt):
        return _publish(session, arguments, tell)
    code = _verify(session, arguments, tell) if arguments.verify else 0
    if arguments.export:
        _export(session, arguments, tell)
    if arguments.report:
        _report(session, arguments)
    return max(code, _rerun(session, arguments)) if arguments.adapt else code


def _check(arguments: Namespace) -> None:
    for name, choices in _CHOICES.items():
        value = getattr(arguments, name)
        if value is not None and value not in choices:
            raise ConfigError(f"--{name} {value!r}: expected {' or '.join(choices)}")
    if arguments.out is not None and bool(arguments.export) == arguments.report:
        instead = "give it to one at a time" if arguments.report else "add --export FORMAT or --report"
        raise ConfigError(f"--out says where --export or --report writes; {instead}")
    if arguments.adapt is not None and arguments.device == "tensorrt":
        raise ConfigError("--device tensorrt: training runs on cpu or cuda; give one of them with --adapt")


def _verify(session: Session, arguments: Namespace, tell: Callable[[str], object]) -> int:
    from psm_stream.replay import Replay, model_opener
    from psm_stream.verify import verify

    replay = Replay(session, model_opener(session.info, arguments.device))
    provider = replay.pipeline.encoder.provider
    tell(_model(replay.pipeline.encoder))
    with _progress("verifying", arguments.quiet) as progress:
        verdict = verify(replay, progress)
    if arguments.json:
        about = {"session": str(session.folder), "finished": session.is_finished, "provider": provider}
        put(json.dumps({**about, "equal": not verdict.difference, **asdict(verdict)}))
    else:
        put("\n".join((_outcome(verdict, provider), *verdict.notes)))
    return 1 if verdict.difference else 0


def _export(session: Session, arguments: Namespace, tell: Callable[[str], object]) -> int:
    from psm_stream.export_table import export

    out = None if arguments.out is None else Path(arguments.out)
    with _progress("exporting", arguments.quiet) as progress:
        exported = export(session, arguments.export, out, progress)
    if exported.missing:
        tell(f"{exported.missing} faces have no embedding: the recording ends before it")
    if arguments.json:
        put(json.dumps({**asdict(exported), "folder": str(exported.folder)}))
    else:
        put(f"{exported.rows} rows and {exported.markers} markers in {exported.folder}")
    return 0


def _report(session: Session, arguments: Namespace) -> None:
    from psm_stream.replay import model_opener
    from psm_stream.report.writing import write_report

    out = None if arguments.out is None else Path(arguments.out)
    with _progress("reporting", arguments.quiet) as progress:
        path = write_report(session, out, model_opener(session.info, arguments.device), progress)
    put(json.dumps({"session": str(session.folder), "report": str(path)}) if arguments.json else f"report in {path}")


def _rerun(session: Session, arguments: Namespace) -> int:
    from psm_stream.record.adaptations import adaptations
    from psm_stream.rerun import check_can_train, rerun

    check_can_train()
    repeated = []
    for recorded in adaptations(session.folder):
        with _progress(f"adaptation {recorded.number}", arguments.quiet) as progress:
            repeated.append(rerun(session, recorded, progress, device=arguments.device))
        if not arguments.json:
            put(f"adaptation {recorded.number}: {_repeated(repeated[-1])}")
    is_repeated = all(one.is_repeated for one in repeated)
    if arguments.json:
        about = {"session": str(session.folder), "repeated": is_repeated}
        put(json.dumps({**about, "adaptations": [asdict(one) for one in repeated]}))
    elif not repeated:
        put("no adaptations are recorded")
    return 0 if is_repeated else 1


def _repeated(one: Rerun) -> str:
    took = f" ({one.seconds:.1f} s)" if one.seconds else ""
    if one.verdict == "left out":
        return f"not repeated, {one.reason}"
    if one.verdict == "failed":
        return f"FAILED to be repeated: {one.reason}{took}"
    models = f"{one.repeated} again" if one.repeated == one.recorded else f"{one.repeated} instead of {one.recorded}"
    loud = "DIFFERENT, " if one.verdict == "far" else ""
    return f"{loud}{models}, {one.reason}{took}"


def _publish(session: Session, arguments: Namespace, tell: Callable[[str], object]) -> int:
    from psm_stream.player import Player
    from psm_stream.replay import Replay, model_opener
    from psm_stream.wire.ports import open_sockets

    wire = {"bind": arguments.bind, "control_port": arguments.control_port, "header": _header(session, arguments)}
    settings = config.load(None, {f"wire.{key}": value for key, value in wire.items()}).wire
    sockets = open_sockets(settings)
    try:
        replay = Replay(session, model_opener(session.info, arguments.device))
        tell(_model(replay.pipeline.encoder))
        tell(f"control on port {sockets.ports.control}, embeddings on {sockets.ports.publish}, Ctrl-C stops")
        played = Player(replay, sockets, settings.header, arguments.pace).run()
    finally:
        sockets.close()
    if arguments.json:
        put(json.dumps(asdict(played)))
    else:
        ended = "" if played.is_complete else ", stopped before the end"
        put(f"published {played.embeddings} embeddings of {played.frames} frames{ended}")
    return 0


def _header(session: Session, arguments: Namespace) -> str:
    """Return the header format asked for, or the recorded one."""
    recorded = session.info.config.get("wire")
    known = recorded.get("header") if isinstance(recorded, dict) else None
    return str(arguments.header or (known if known in _CHOICES["header"] else "msgpack"))


def _introduction(session: Session) -> str:
    info = session.info
    name = f" ({info.name})" if info.name else ""
    about = f"{session.folder}{name}: {info.source}, {session.size_bytes / 1e6:.1f} MB"
    if info.finished is not None:
        seconds = info.finished.at.monotonic - info.started.monotonic
        return f"{about}, {info.finished.inputs} inputs in {seconds:.1f} s, ended: {info.finished.reason}"
    if session.is_finished:
        return f"{about}, cut off after its last record: nothing is missing from the log"
    return (
        f"{about}, CUT OFF (or still being recorded): read up to the cut, {session.lost_bytes} bytes after it are lost"
    )


def _model(encoder: Encoder) -> str:
    untrained = "" if encoder.trained else f"\n{UNTRAINED}"
    return f"encoder {encoder.model_id} on {encoder.provider}{untrained}\n{encoder.bundle.manifest.terms}"


def _outcome(verdict: Verdict, provider: str) -> str:
    if verdict.difference:
        return f"DIFFERENT after {verdict.embeddings} equal embeddings: {verdict.difference}"
    cut = f"; {verdict.unfinished} messages of the last frame were cut off" if verdict.unfinished else ""
    if verdict.embeddings == 0:
        return f"0 embeddings compared: none were recorded{cut}"
    if verdict.tolerance:
        how = f"within the manifest's tolerance of {verdict.tolerance:g} (off by up to {verdict.max_abs:.3g})"
    else:
        how = "equal to the byte"
    return f"{verdict.embeddings} embeddings compared on {provider}, {how}, {verdict.messages} messages in all{cut}"


def _teller(quiet: bool) -> Callable[[str], object]:
    """Return what tells people something: on stderr, or nowhere."""
    return (lambda _: None) if quiet else (lambda text: put(text, sys.stderr))


@contextmanager
def _progress(task: str, quiet: bool) -> Iterator[Callable[..., None]]:
    """Show a progress bar on stderr, where that is a terminal.

    Yields what takes the part that is done, 0..1, and the phase, if there are phases.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        number = bar.add_task(task, total=1.0)
        yield lambda done, phase="": bar.update(number, completed=done, description=f"{task} {phase}".rstrip())
