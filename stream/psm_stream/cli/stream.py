"""psm-stream: read a face live, publish what it does."""

from __future__ import annotations

import json
import signal
import sys
import time
from argparse import SUPPRESS, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from psm_stream import config
from psm_stream.cli.common import INTERRUPTED, UNTRAINED, Parser, ending_at_once, leave, put, run
from psm_stream.config import Settings
from psm_stream.errors import ConfigError, PsmError
from psm_stream.people import newest_model, open_newest

if TYPE_CHECKING:
    from psm_stream.align.crops import Crops
    from psm_stream.live import Live

# flag: (dotted key, what its value is, help)
_SHORT: dict[str, tuple[str, str, str]] = {
    "--person": ("person", "NAME", "who it is: their newest model runs, if there is one"),
    "--model": ("encoder.model", "BUNDLE", "encoder bundle (a folder); default: the general encoder of this package"),
    "--record": ("record.root", "DIR", "record under this folder, as <date>/<number>"),
    "--adapt": ("adapt", "MODE", "train a model of this person meanwhile: auto, manual (when C asks) or off"),
    "--device": ("encoder.device", "NAME", "auto, cpu, cuda or tensorrt; anything but auto is taken at its word"),
    "--pace": ("source.pace", "PACE", "files: live keeps their timing and drops like a camera, fast takes every frame"),
    "--frames": ("frames", "N", "stop after so many captured frames"),
    "--duration": ("duration_s", "SECONDS", "stop after so long"),
    "--bind": ("wire.bind", "HOST", "address to listen on; default 127.0.0.1: this machine only"),
    "--control-port": ("wire.control_port", "N", "control port (50120) or auto; publisher +1, latest +2, markers +3"),
    "--header": ("wire.header", "FORMAT", "msgpack or json"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit code."""
    with ending_at_once():  # until the run itself stops cleanly on signals
        return run(_stream, argv)


def _parser() -> Parser:
    parser = Parser(
        "psm-stream",
        "Read a face live and publish what it does over ZeroMQ. Without a source: the demo.",
        usage="psm-stream [--camera N | --rtsp URL | --source PATH] [options]",
        epilog="Any setting can be given by its dotted key, as in --source.width 640; docs/settings.md lists them.",
    )
    where = parser.add_argument_group("source (one of)")
    where.add_argument("--camera", metavar="N", help="webcam number")
    where.add_argument("--rtsp", metavar="URL", help="network camera")
    where.add_argument("--source", metavar="PATH", help="video file, folder of images, or demo")
    for flag, (_, value, text) in _SHORT.items():
        parser.add_argument(flag, metavar=value, help=text)
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings; flags win over it")
    parser.add_argument("--summary", metavar="FILE", help="write the summary here as JSON at the end")
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    for key in config.dotted_keys():
        if "." in key:
            parser.add_argument(f"--{key}", help=SUPPRESS)
    return parser


def _overrides(arguments: Namespace) -> dict[str, Any]:
    """Dotted keys from the flags that were given."""
    given = vars(arguments)
    overrides = {key: given[key] for key in config.dotted_keys() if "." in key and given[key] is not None}
    for flag, (key, _, _) in _SHORT.items():
        value = given[flag[2:].replace("-", "_")]
        if value is not None:
            overrides[key] = value
    overrides.update(_source(arguments.camera, arguments.rtsp, arguments.source))
    if overrides.get("source.kind") == "images" and arguments.config is None:
        overrides.setdefault("source.pace", "fast")  # photographs have no time of their own to keep
    return overrides


def _source(camera: str | None, rtsp: str | None, source: str | None) -> dict[str, Any]:
    given = [
        flag for flag, value in (("--camera", camera), ("--rtsp", rtsp), ("--source", source)) if value is not None
    ]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} exclude each other; give one")
    if camera is not None:
        return {"source.kind": "camera", "source.camera": camera}
    if rtsp is not None:
        return {"source.kind": "rtsp", "source.rtsp": rtsp}
    return {} if source is None else _path(source)


def _path(source: str) -> dict[str, Any]:
    if not source:
        raise ConfigError("--source is empty; give a video file, a folder of images, or demo")
    if source == "demo":
        return {"source.kind": "demo"}
    if source.startswith(("rtsp://", "rtsps://")):
        return {"source.kind": "rtsp", "source.rtsp": source}
    return {"source.kind": "images" if Path(source).is_dir() else "file", "source.path": source}


def _stream(argv: Sequence[str]) -> int:
    arguments = _parser().parse(argv)
    settings = config.load(Path(arguments.config) if arguments.config else None, _overrides(arguments))
    summary_path = Path(arguments.summary) if arguments.summary else None
    if summary_path is not None and not summary_path.absolute().parent.is_dir():
        raise ConfigError(f"--summary {summary_path}: the folder does not exist; make it first")
    if summary_path is not None and summary_path.is_dir():
        raise ConfigError(f"--summary {summary_path} is a folder; name a file in it")
    return _run(settings, arguments.quiet, summary_path)


def _run(settings: Settings, quiet: bool, summary_path: Path | None) -> int:
    from psm_stream.console import Console  # after the arguments are known to be good: these imports cost time
    from psm_stream.live import Live
    from psm_stream.startup import open_parts

    started = time.monotonic()
    parts = open_parts(settings, time.monotonic, (lambda _: None) if quiet else put)
    with Console(quiet) as console:
        live = Live(parts, console, time.monotonic)
        with _signals(live):
            aside = _left_aside(settings, parts.crops)
            stop = live.run(on_ready=lambda: console.say(_introduction(live, aside, time.monotonic() - started)))
        if summary_path is not None:
            _write_summary(summary_path, live.final)
        if live.is_ready:
            console.say(_farewell(live.final))
    if stop.error is not None:
        raise stop.error  # the caller makes it one line, and an exit code
    if live.final["complaint"]:
        print(f"error: {live.final['complaint']}", file=sys.stderr)
    return int(live.final["exit"])


@contextmanager
def _signals(live: Live) -> Iterator[None]:
    """Turn Ctrl-C, SIGTERM and a closed terminal into a clean stop; a second signal interrupts at once."""
    came: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)
        live.interrupt(INTERRUPTED if number == signal.SIGINT else 128 + number)

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _introduction(live: Live, aside: str, seconds: float) -> str:
    from psm_stream.adaptation.words import intention
    from psm_stream.clusters import words

    about = live.parts.describe(live.pipeline.encoder)
    manifest = live.pipeline.encoder.bundle.manifest
    whose = manifest.person
    of_whom = f" of {whose}" if whose else ""
    model = f"encoder {live.pipeline.encoder.model_id}{of_whom} on {about['providers'][0]} ({about['provider_why']})"
    untrained = "" if about["trained"] else f"\n{UNTRAINED}"
    person = live.parts.settings.person
    is_new = person and not newest_model(person) and live.parts.settings.encoder.model is None
    stranger = f"\nno model of {person} yet: the general encoder runs" if is_new else ""
    ports = live.parts.sockets.ports
    known = len(live.parts.known.faces) if live.parts.known is not None else 0
    return (
        f"psm-stream {about['version']}: {about['source']}, {model}{untrained}{stranger}{aside}\n"
        f"{manifest.terms}{_other_crops(live)}\n"
        f"{intention(live.parts.plan, live.parts.settings)}\n"
        f"{words.intention(live.parts.settings.clusters, person, known)}\n"
        f"ready in {seconds:.1f} s; control on port {ports.control}, embeddings on {ports.publish}, Ctrl-C stops"
    )


def _other_crops(live: Live) -> str:
    """Say by which template faces are cropped, where it is not our own."""
    from psm_stream.align.template import EYES_LEVEL

    crops = live.parts.crops
    return "" if crops.template.is_same(EYES_LEVEL) else f"; crops of {crops.size_px} px by {crops.template}"


def _left_aside(settings: Settings, crops: Crops) -> str:
    """Say that a person's own model cannot take over in this run, since another that wants other crops was named."""
    from psm_stream.align.crops import why_not

    if not settings.person or settings.encoder.model is None:
        return ""
    try:
        newest = open_newest(settings.person)
    except PsmError as error:  # it does not run, so it need not be whole
        return f"\n{error}"
    trouble = "" if newest is None else why_not(newest.manifest, crops)
    return f"\n{settings.person}'s newest model is left aside: {trouble}" if trouble else ""


def _farewell(summary: dict[str, Any]) -> str:
    frames, latency = summary["frames"], summary["latency_ms"]["capture_to_publish"]
    dropped = ", ".join(f"{count} by {cause}" for cause, count in frames["dropped"].items()) or "none"
    adapted = _adapted(summary["adaptations"])
    return (
        f"{frames['captured']} frames captured, {frames['processed']} processed ({frames['no_face']} without a face), "
        f"dropped: {dropped}; {summary['fps']:.1f} fps over {summary['seconds']:.1f} s; "
        f"capture to publish p50 {latency['p50']:.1f}, p95 {latency['p95']:.1f}, max {latency['max']:.1f} ms"
        f"{adapted}"
    )


def _adapted(entries: Sequence[dict[str, Any]]) -> str:
    """Count the adaptations; one that was stopped is neither accepted nor rejected."""
    stopped = sum(entry["stopped"] for entry in entries)
    ended = len(entries) - stopped
    text = ""
    if ended:
        accepted = sum(entry["accepted"] for entry in entries)
        text += f"; {ended} adaptation{'s' if ended > 1 else ''}, {accepted} accepted"
    if stopped:
        text += f"; {stopped} training{'s' if stopped > 1 else ''} stopped"
    return text


def _write_summary(path: Path, summary: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--summary {path}: {error.strerror or error}") from None


if __name__ == "__main__":
    leave(main())
