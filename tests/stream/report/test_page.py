"""The page: what is on it for any session, and that nothing of a session can become a part of it."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from tests.stream.report.stories import a_story, frames

from psm_stream.report.page import page
from psm_stream.report.palette import HOLLOW
from psm_stream.report.story import Said

NASTY = [
    '</text></svg><script>alert("1")</script>',
    "\"><img src=x onerror='alert(2)'>",
    "a&b &lt; \u202eevil\ud800\x00",
]
_VOID = {"meta", "link", "img", "br", "col"}
_KNOWN = {
    *("html", "head", "meta", "link", "title", "style", "body", "main", "h1", "h2", "h3", "p", "b", "span", "div"),
    *("figure", "figcaption", "article", "table", "tr", "th", "td", "footer", "img"),
    *("svg", "g", "path", "rect", "line", "text"),
}


class Reading(HTMLParser):
    """Reads a page as a browser would, and checks that every element is ours and is closed."""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.words, self.addresses = [], [], [], []
        self.feed(markup)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert tag in _KNOWN
        assert not [name for name, _ in attrs if name.startswith("on")]
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action", "xlink:href")]
        self.tags.append(tag)
        self.open += [] if tag in _VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


@pytest.mark.parametrize(("clusters", "shown"), [(0, 0), (1, 1), (5, 5), (40, 40), (60, 40)])
def test_a_sheet_for_each_cluster(session, clusters, shown):
    path = frames(clusters, 900 if clusters > 5 else 200)
    path += [[cluster] for cluster in range(clusters)]
    read = Reading(page(a_story(session, path)))
    assert read.tags.count("article") == shown
    assert ("rarer clusters are left out" in read.text) == (clusters > shown)
    assert ("There are no clusters in it" in read.text) == (clusters == 0)


def test_a_session_without_a_frame(session):
    read = Reading(page(a_story(session, [])))
    assert "There are no clusters in it." in read.text
    assert "Embedding." not in read.text


def test_both_ids_of_a_session_are_named(session):
    words = Reading(page(a_story(session, frames(3)))).words
    assert words[words.index("Recording id ") + 1] == session.info.uuid
    assert words[words.index(" · Session id of its messages ") + 1] == session.info.run


def test_nothing_is_asked_of_anybody(session):
    markup = page(a_story(session, frames(4), markers=[(30, "go")]))
    assert all(address.startswith("data:") for address in Reading(markup).addresses)
    assert "url(" not in markup
    assert "@import" not in markup
    assert re.search(r"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src &#x27;none&#x27;", markup)


@pytest.mark.parametrize("nasty", NASTY)
def test_what_a_session_says_stays_text(session, nasty):
    told = a_story(session, frames(4), names={2: nasty}, markers=[(30, nasty)], label=f"{nasty} 0.5")
    read = Reading(page(told))
    harmless = Reading(page(a_story(session, frames(4), names={2: "x"}, markers=[(30, "x")], label="x 0.5")))
    assert sorted(set(read.tags)) == sorted(set(harmless.tags))
    assert read.tags.count("img") == harmless.tags.count("img")
    assert nasty.translate({0x202E: 0xFFFD, 0xD800: 0xFFFD, 0: 0xFFFD}) in read.text


def test_a_face_that_never_leaves_a_cluster_has_no_matrix(session):
    still, moving = (a_story(session, path) for path in ([[0]] * 60, frames(3)))
    assert "Transitions." not in page(still)
    assert "Transitions." in page(moving)


def test_faces_without_clusters_are_seen_as_rings(session):
    markup = page(a_story(session, frames(3)))
    assert markup.count(f'stroke="{HOLLOW}"') == 2  # on the timeline and on the plane
    assert "rings: while there were no clusters" in markup
    never = page(a_story(session, [[-1]] * 10))
    assert never.count(f'stroke="{HOLLOW}"') == 1  # where nothing is told apart, dots are full
    assert "rings:" not in never


def test_with_a_vocabulary_clusters_are_called_by_their_tokens(session):
    path = [*frames(4), *[[1]] * 20, *[[-1]] * 40, *[[0]] * 20]
    words = Reading(page(a_story(session, path, names={2: "grin"}, tokens=True))).words
    assert {"c0", "c1", "c2 grin", "c3", " Cluster c2 grin", "<unk>", "–"} <= set(words)
    assert "noise" not in " ".join(words)


def test_shares_on_the_timeline_are_shares_of_frames(session):
    path = [[0]] * 20 + [[0]] * 50 + [[1]] * 30 + [[-1]] * 20
    markup = page(a_story(session, path))
    assert re.findall(r">(\d+%)<", markup)[:3] == ["50%", "30%", "20%"]


def test_the_legend_has_what_is_drawn_of_what_the_source_says(session):
    told = a_story(session, frames(3, 400))
    said = [Said(("neutral", "smile", "blink")[n % 3], n / 9, n / 9 + 0.1, 0.8 * (n % 3 > 0)) for n in range(90)]
    read = Reading(page(replace(told, said=said)))
    assert "neutral" not in read.text
    assert [words for words in read.words if words in ("blink", "smile")][-2:] == ["blink", "smile"]


def test_several_faces_have_rows_of_their_own(session):
    markup = page(a_story(session, frames(3, faces=5)))
    assert [f">face {n}<" in markup for n in range(5)].count(True) == 3
    assert ">face 0<" not in page(a_story(session, frames(3)))


def test_a_swap_is_on_the_timeline(session):
    markup = page(a_story(session, frames(3), swap_at=100))
    assert markup.count("stroke-dasharray") == 1
    assert all(model_id[:8] in markup for model_id in ("a" * 12, "b" * 12))
    assert "stroke-dasharray" not in page(a_story(session, frames(3)))


def test_the_same_session_gives_the_same_page(session):
    one, other = (page(a_story(session, frames(7, faces=2), markers=[(9, "x")])) for _ in range(2))
    assert one == other
