"""The page: all figures, with their captions, in one file that asks for nothing from anywhere."""

from __future__ import annotations

from pathlib import Path

from psm_stream.clusters.bouts import PASSING_S
from psm_stream.report import quality
from psm_stream.report.axes import clock
from psm_stream.report.markup import Markup, element, escaped, joined
from psm_stream.report.naming import Naming
from psm_stream.report.scatter import scatter
from psm_stream.report.sheets import sheets
from psm_stream.report.story import NOISE, UNSORTED, Story
from psm_stream.report.timeline import timeline
from psm_stream.report.transitions import matrix_of, transitions

_MOST_EVENTS = 60
_NOTHING_LOADED = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = Path(__file__).with_name("page.css")


def page(story: Story) -> Markup:
    """Return the whole page."""
    naming = Naming(story)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_NOTHING_LOADED),
        element("meta", name="viewport", content="width=device-width"),
        element("link", rel="icon", href="data:,"),
        element("title", escaped(f"Session {story.title}")),
        element("style", Markup(_STYLE.read_text(encoding="utf-8"))),
    )
    body = element("body", element("main", *_head(story, naming), *_sections(story, naming), _foot()))
    return Markup(f"<!doctype html>{element('html', head, body, lang='en')}")


def _head(story: Story, naming: Naming) -> list[Markup]:
    facts = [joined([escaped(f"{name} "), element("b", escaped(fact))]) for name, fact in story.about.items()]
    remarks = [element("p", escaped(words), class_="remark") for words in story.quality.remarks]
    return [
        element("h1", escaped(f"Session {story.title}")),
        element("p", Markup(" · ".join(facts)), class_="about"),
        element("p", escaped(_abstract(story, naming)), class_="abstract"),
        *remarks,
    ]


def _abstract(story: Story, naming: Naming) -> str:
    """Say in two sentences what the session is."""
    low, high = story.span
    table, faces = story.table, len(story.faces)
    seen = [entry for entry in table["clusters"] if entry["frames"]]
    length = f"{_length(high - low)} of {'one face' if faces == 1 else f'{faces} faces'}"
    what = f"{length}, {len(story.quality.series.t):,} frames processed. "
    if not seen:
        return what + "There are no clusters in it."
    longest = max(seen, key=lambda entry: entry["frames"])
    return what + (
        f"{len(seen)} cluster{'s' * (len(seen) > 1)} and {naming.noise} ({table['noise']['share']:.0%} of the frames "
        f"that had clusters); the face is most often in cluster {naming.name(longest['cluster'])} "
        f"({longest['share']:.0%})."
    )


def _length(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (0 if hours else seconds, "s"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count)


def _sections(story: Story, naming: Naming) -> list[Markup]:
    captions = _Captions()
    parts = [
        element("h2", escaped("Over time")),
        _figure(
            _wide(timeline(story, naming)),
            captions.next(
                "Timeline.",
                "A row is filled while the face is in its cluster; at the right is the share of the time in which "
                f"there were clusters. Grey: {naming.noise}. Dashed: another encoder from there on. " + _times(story),
            ),
        ),
    ]
    beside = []
    if story.plane is not None:
        rings = "; rings: while there were no clusters" if UNSORTED in story.plane.clusters else ""
        key = f" Each id stands at the median of its cluster. Grey: {naming.noise}{rings}." if naming.shown else ""
        caption = captions.next(
            "Embedding.",
            f"{len(story.plane.xy):,} of {story.plane.of:,} faces, evenly spread over the session, in the first two "
            f"principal components of encoder {story.plane.model_id}, both to one scale.{key}",
        )
        beside.append(_figure(scatter(story.plane, naming), caption))
    matrix = matrix_of(story, naming)
    if matrix is not None:
        caption = captions.next(
            "Transitions.",
            "How often the face went from one cluster (row) to another (column), straight or through less than "
            f"{PASSING_S:g} s of {naming.noise}; the darker, the larger a share of its row."
            + (f" –: {naming.noise} that lasted longer." if NOISE in matrix.clusters else ""),
        )
        beside.append(_figure(transitions(matrix, naming), caption))
    if beside:
        parts.append(element("div", *beside, class_="pair"))
    if naming.shown:
        parts += _clusters(story, naming, captions)
    return [*parts, *_quality(story, captions), *_events(story)]


def _clusters(story: Story, naming: Naming, captions: _Captions) -> list[Markup]:
    rarer = f" {naming.hidden} rarer clusters are left out." if naming.hidden else ""
    caption = captions.next(
        "Clusters.",
        "The faces that belong most firmly, at least a second apart; and the mean of each action unit, in standard "
        f"deviations from the mean of all frames. Units are proxies measured from {story.table['units_from']}, no FACS "
        f"coding. A bout is an unbroken stay.{rarer}",
    )
    body = element("div", sheets(story, naming), class_="sheets")
    return [element("h2", escaped("Clusters")), body, element("figure", caption)]


def _quality(story: Story, captions: _Captions) -> list[Markup]:
    fast = (
        " The source was read at pace fast, where every frame waits for its turn: these are times in queues, and say "
        "nothing about how late a live face would be."
    )
    caption = captions.next(
        "Recording.",
        "Time from capture to publishing: median (line) and 5 to 95 % (band); frames lost, if any, below."
        f"{fast if story.quality.is_fast else ''} The table of stages is the run's own last account.",
    )
    figure = _figure(_wide(quality.over_time(story)), caption)
    return [element("h2", escaped("Quality of the recording")), figure, quality.figures(story)]


def _events(story: Story) -> list[Markup]:
    told = [event for event in story.events if event.kind != "marker"]
    if not told:
        return []
    rows = [
        element("tr", element("td", escaped(clock(event.t, with_tenths=True))), element("td", escaped(event.text)))
        for event in told[:_MOST_EVENTS]
    ]
    rest = len(told) - _MOST_EVENTS
    more = [element("p", escaped(f"and {rest} more"), class_="about")] if rest > 0 else []
    return [element("h2", escaped("What happened")), element("table", *rows, class_="grid events"), *more]


def _times(story: Story) -> str:
    if story.has_own_time:
        return "Times are the source's own, from the first frame on."
    return "Times are those of capture, from the first frame on."


class _Captions:
    """Numbers the figures."""

    def __init__(self) -> None:
        self._count = 0

    def next(self, title: str, words: str) -> Markup:
        """Return the caption of the next figure."""
        self._count += 1
        return element("figcaption", element("b", escaped(f"Figure {self._count}. {title}")), escaped(f" {words}"))


def _figure(drawing: Markup, caption: Markup) -> Markup:
    return element("figure", drawing, caption)


def _wide(drawing: Markup) -> Markup:
    """Put a figure as wide as the page into a box where it scrolls on a narrow screen, so that it can still be read."""
    return element("div", drawing, class_="wide")


def _foot() -> Markup:
    words = "Made by psm-replay --report of what was recorded. The page shows a person's face; it loads nothing."
    return element("footer", escaped(words))
