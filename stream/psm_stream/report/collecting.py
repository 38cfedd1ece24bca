"""From a session's log to the story that its report tells. One pass; what was recorded is believed, not computed again.

`psm-replay --verify` is what computes again. Memory: 50 bytes for each frame, the runs, the sampled faces.
"""

from __future__ import annotations

import json
import time
from array import array
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psm_stream.client.messages import Malformed, decode_header, decode_payload
from psm_stream.clusters.account import ClusterAccount
from psm_stream.errors import SessionError
from psm_stream.record.codec import Record
from psm_stream.record.reader import Session
from psm_stream.report.clock import SessionClock
from psm_stream.report.happenings import COUNTED, words
from psm_stream.report.plane import Encodes, Sample
from psm_stream.report.runs import Runs
from psm_stream.report.saying import Saying, parted
from psm_stream.report.story import UNSORTED, Event, Quality, Series, Story
from psm_stream.values import AlignedFace, Assignment, Embedding, Faces, Marker, NameCluster, NoFace
from psm_stream.wire.messages import Message

_MOST_EVENTS = 5000


def collect(
    session: Session, open_encoder: Callable[[str], Encodes], progress: Callable[[float], None] = lambda _: None
) -> Story:
    """Read a session. open_encoder: as in `Sample.plane`. progress: told how much of the work is done, 0..1.

    Raises SessionError: the log is damaged. Raises what open_encoder raises.
    """
    collector = Collector()
    for logged in session.entries():
        collector.take(logged.value)
        progress(0.9 * logged.offset / session.size_bytes)
    return collector.story(session, open_encoder, lambda part: progress(0.9 + 0.1 * part))


@dataclass(slots=True)
class _Waiting:
    """A face, and what was published of it so far."""

    face: AlignedFace
    header: dict[str, Any] = field(default_factory=dict)
    vector: NDArray[np.float32] | None = None


class Collector:
    """Folds over a session's log."""

    def __init__(self) -> None:
        self._clock = SessionClock()
        self._account = ClusterAccount()
        self._runs, self._saying, self._sample = Runs(), Saying(), Sample()
        self._waiting: dict[tuple[int, int], _Waiting] = {}
        self._tokens: dict[int, str] = {}
        self._said_in: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._models: list[tuple[str, float]] = []
        self._fits: list[tuple[int, float]] = []
        self._events: deque[Event] = deque(maxlen=_MOST_EVENTS)
        self._lost = 0
        self._dropped: Counter[str] = Counter()
        self._t, self._drops, self._seen = array("d"), array("q"), array("b")
        self._latency_t, self._latency_ms = array("d"), array("d")
        self._stages: Mapping[str, Mapping[str, float]] = {}

    def take(self, value: Record | Message) -> None:
        """Take the next entry of the log. Raises SessionError: a message cannot be read."""
        match value:
            case Faces() | NoFace():
                self._sighting(value)
            case Marker() if value.origin != "source":
                self._events.append(Event(self._clock.of(value.t), "marker", value.label))
            case NameCluster():
                self._account.named(value)
                what = f"cluster {self._tokens.get(value.cluster, value.cluster)}"
                said = f"{what} is called {value.name}" if value.name else f"{what} has no name"
                self._events.append(Event(self._clock.now, "name", said))
            case Message(topic=topic):
                self._message(topic, value)

    def see(self, embedding: Embedding) -> None:
        """Count an embedding whose stamp has the report's time already."""
        assigned, t = embedding.assignment, embedding.face.frame.t_capture
        cluster = assigned.cluster if assigned.version else UNSORTED
        if not self._models or self._models[-1][0] != embedding.model_id:
            self._models.append((embedding.model_id, t))
        if assigned.version != (self._fits[-1][0] if self._fits else 0):
            self._fits.append((assigned.version, t))
        if assigned.token:
            self._tokens[assigned.cluster] = assigned.token
        if assigned.version and embedding.face.frame.label:
            self._said_in[cluster][parted(embedding.face.frame.label)[0]] += 1
        self._account.see(embedding)
        self._runs.see(embedding.face.face_id, cluster, assigned.version, t)
        self._sample.offer(embedding, cluster)

    def _sighting(self, sighting: Faces | NoFace) -> None:
        self._flush()
        frame, t = sighting.frame, self._clock.advance(sighting.frame)
        self._t.append(t)
        self._drops.append(sum(frame.dropped.values()))
        self._dropped.update(frame.dropped)
        self._seen.append(isinstance(sighting, Faces))
        self._saying.see(frame.label, t)
        stamp = replace(frame, t_capture=t, t_source=t)
        for face in sighting.faces if isinstance(sighting, Faces) else ():
            self._waiting[frame.index, face.face_id] = _Waiting(replace(face, frame=stamp))

    def _message(self, topic: str, message: Message) -> None:
        kind, _, leaf = topic.partition(".")
        if kind not in ("embedding", "cluster", "notify") and topic != "stats.pipeline":
            return
        try:
            header = decode_header(message.header)
            if kind == "notify":
                self._notice(leaf, header)
            elif kind == "stats":
                self._stages = json.loads(message.payload).get("latency_ms", {})
            elif (waiting := self._waiting.get((header["frame_index"], header["face_id"]))) is not None:
                waiting.header.update(header)
                if kind == "embedding":
                    waiting.vector = decode_payload(header, message.payload)
                    self._latency_t.append(waiting.face.frame.t_capture)
                    self._latency_ms.append(1e3 * (header["t_publish"] - header["t_capture"]))
        except (Malformed, ValueError) as error:
            raise SessionError(f"a recorded {topic} message cannot be read: {error}") from None

    def _notice(self, subject: str, header: Mapping[str, Any]) -> None:
        if subject == "face.lost":
            self._lost += 1
        if subject not in COUNTED:
            t = header.get("t_notice", header["t_publish"])
            self._events.append(Event(self._clock.of(t), subject, words(subject, header)))

    def _flush(self) -> None:
        """Count what was published of the last frame; a face without an embedding was cut off."""
        for waiting in self._waiting.values():
            if waiting.vector is not None:
                header = waiting.header
                self.see(
                    Embedding(
                        waiting.face, waiting.vector, header["model_id"], header["model_epoch"], _assignment(header)
                    )
                )
        self._waiting.clear()

    def story(
        self, session: Session, open_encoder: Callable[[str], Encodes], progress: Callable[[float], None]
    ) -> Story:
        """End the collection and return what was found."""
        self._flush()
        faces = self._runs.by_face()
        times = [*self._t, *(event.t for event in self._events)]
        table = self._account.table()
        return Story(
            title=_title(session),
            about=_about(session),
            has_own_time=self._clock.has_own_time,
            span=(min(times, default=0.0), max(times, default=0.0)),
            faces=faces,
            said=self._saying.runs(self._clock.now),
            models=self._models,
            fits=self._fits,
            events=list(self._events),
            account=self._account,
            table=table,
            labels={entry["cluster"]: entry["name"] for entry in table["clusters"]},
            tokens=self._tokens,
            said_in={cluster: said.most_common(1)[0] for cluster, said in self._said_in.items()},
            plane=self._sample.plane(open_encoder, progress),
            quality=self._quality(session),
        )

    def _quality(self, session: Session) -> Quality:
        t, seen = np.array(self._t), np.array(self._seen, bool)
        latency_t, latency_ms = np.array(self._latency_t), np.array(self._latency_ms)
        known = np.isfinite(latency_ms)
        series = Series(t, np.array(self._drops, np.int64), seen, latency_t[known], latency_ms[known])
        with_face = t[seen]
        pauses = np.diff(np.concatenate([t[:1], with_face, t[-1:]])) if len(t) else np.zeros(1)
        without = float(pauses.max()) if not seen.all() else 0.0
        return Quality(
            series, dict(self._dropped), self._lost, without, self._stages, _is_fast(session), _remarks(session)
        )


def _assignment(header: Mapping[str, Any]) -> Assignment:
    return Assignment(
        header["cluster"],
        header["cluster_strength"],
        float(header.get("outlier", float("nan"))),
        header["cluster_version"],
        str(header.get("name", "")),
        str(header.get("token", "")),
    )


def _title(session: Session) -> str:
    folder = session.folder.absolute()
    return session.info.name or f"{folder.parent.name}/{folder.name}"


def _about(session: Session) -> dict[str, str]:
    info = session.info
    clusters = info.config.get("clusters")
    method = clusters.get("method", "") if isinstance(clusters, dict) else ""
    person = info.config.get("person")
    facts = {
        "Recording id": info.uuid,
        "Session id of its messages": info.run,
        "Recorded": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(info.started.unix)),
        "Person": str(person or ""),
        "Source": info.source,
        "Encoders": ", ".join(info.models),
        "Ran on": info.provider,
        "Clusters by": "" if method == "off" else str(method),
        "psm-stream": info.versions.get("psm-stream", ""),
    }
    return {name: fact for name, fact in facts.items() if fact}


def _is_fast(session: Session) -> bool:
    """Tell whether frames waited for the run; cameras and streams never do, whatever pace was set."""
    source = session.info.config.get("source")
    return isinstance(source, dict) and source.get("pace") == "fast" and source.get("kind") not in ("camera", "rtsp")


def _remarks(session: Session) -> list[str]:
    finished = session.info.finished
    remarks = []
    if finished is None:
        lost = f"; the last {session.lost_bytes} bytes of its log are lost" if session.lost_bytes else ""
        remarks.append(f"The recording was cut off: this is what there is up to the cut{lost}.")
    elif finished.failed:
        remarks.append(f"The run failed: {finished.reason}. The last frame may be there in part.")
    if finished is not None and finished.video_dropped:
        causes = ", ".join(f"{count} by {cause}" for cause, count in finished.video_dropped.items())
        remarks.append(f"Frames missing from the video: {causes}.")
    return remarks
