"""The report of an adaptation: what it compares, and that it is whole, safe and readable by itself."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from psm_adapt.adaptation.comparing import checks_of, compare, most_different
from psm_adapt.adaptation.gate import GateSettings
from psm_adapt.adaptation.panels import flattened
from psm_adapt.adaptation.report import Story, write_report
from psm_adapt.adaptation.work import Outcome, WorkJob, run
from psm_adapt.evaluate.blendshape_labels import proxy_labels
from psm_adapt.evaluate.probe import within_person
from psm_stream.blendshapes import BLENDSHAPES
from psm_stream.errors import AdaptationError

QUICK = {"run.epochs": "1", "run.batch_size": "8", "screen.fewest": "20"}
STORY = Story(["a <b> & $c$_{d}: 48 faces"], ["0123 (ann/002)", "4567 (general)"], {"finding faces": 1.5})


def adapt(snapshot: Path, out: Path, **overrides: str) -> Outcome:
    return run(WorkJob(snapshot, "general", "cpu", out, person="ann", overrides=QUICK | overrides))


@pytest.fixture(scope="module")
def rejected(demo_snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Rejected by the gate, so that there is a child."""
    return adapt(demo_snapshot, tmp_path_factory.mktemp("report") / "out", **{"gate.gain": "0.9"})


class Tags(HTMLParser):
    """Counts elements, and notes what they load."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_holds_everything_in_itself(rejected: Outcome, tmp_path: Path) -> None:
    page, picture = write_report(tmp_path, rejected, STORY)
    text = page.read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    assert tags.opened.count("img") == 5  # faces, losses, codes, neutral faces, time
    assert all(source.startswith("data:image/png;base64,") for source in tags.loaded)
    assert "script" not in tags.opened
    assert "a &lt;b&gt; &amp; $c$_{d}: 48 faces" in text
    assert "0123 (ann/002)" in text
    assert "ann: rejected" in text
    assert "not met" in text
    with Image.open(picture) as shown:
        assert shown.width > 1200
        assert np.asarray(shown.convert("L")).std() > 20


def test_a_snapshot_that_was_refused_has_a_report_too(demo_snapshot: Path, tmp_path: Path) -> None:
    outcome = adapt(demo_snapshot, tmp_path / "out", **{"screen.fewest": "49"})
    assert compare(outcome, None) is None
    page, _ = write_report(tmp_path, outcome, STORY)
    text = page.read_text(encoding="utf-8")
    assert outcome.adaptation.reason in text
    assert "nothing was learned" in text
    with pytest.raises(AdaptationError, match="cannot write"):
        write_report(tmp_path / "nowhere", outcome, STORY)


def test_checks_are_those_of_the_gate(rejected: Outcome) -> None:
    figures = rejected.adaptation.figures
    unmet = {check.what for check in checks_of(figures, GateSettings(gain=0.9, informed=-1)) if not check.is_met}
    assert unmet == {"loss, held out to judge", "error of rebuilt faces"}
    lax = GateSettings(gain=0, informed=-1, neutral=9, rank=0, spread=0, neighbours=0)
    assert all(check.is_met for check in checks_of(figures, lax)) == (
        figures["loss_after"] <= figures["loss_before"]  # type: ignore[operator]
        and figures["rebuilt_error_after"] <= figures["rebuilt_error_before"]  # type: ignore[operator]
    )
    assert checks_of({"faces": 12.0}, lax) == []


def test_the_probe_is_of_faces_that_were_not_learned_from(rejected: Outcome) -> None:
    parts, snapshot = rejected.parts, rejected.snapshot
    assert parts is not None
    assert rejected.child is not None
    blendshapes = np.zeros((len(snapshot), len(BLENDSHAPES)), np.float32)
    blendshapes[::2, BLENDSHAPES.index("jawOpen")] = 0.9
    blendshapes[0] = np.nan
    compared = compare(rejected, blendshapes)
    assert compared is not None
    probed = compared.probed
    assert probed is not None
    rows = np.concatenate([parts.choose, parts.judge])
    assert probed.frames == len(rows)
    labels = proxy_labels(blendshapes[1:])[rows - 1]
    for networks, found in ((rejected.parent, probed.before), (rejected.child, probed.after)):
        with torch.no_grad():
            codes = networks.encoder(snapshot.only(rows).images()).numpy()
        wanted = within_person(codes, labels, snapshot.t_capture[rows])
        assert found == pytest.approx(wanted, nan_ok=True, abs=1e-9)


def test_faces_that_differ_most_are_chosen() -> None:
    codes = np.array([[0.0, 0.0], [0.1, 0.0], [10.0, 0.0], [0.0, 6.0], [0.1, 6.0]], np.float32)
    assert most_different(codes, 3) == [2, 3, 1]
    assert len(most_different(codes, 9)) == 5


def test_codes_are_flattened_along_their_widest_directions() -> None:
    draw = np.random.default_rng(0)
    codes = (draw.normal(size=(40, 5)) * [5, 3, 1, 0.5, 0.1]).astype(np.float32)
    points, share = flattened(codes)
    sizes, axes = np.linalg.eigh(np.cov(codes.T.astype(np.float64)))
    wanted = (codes - codes.mean(0)) @ axes[:, ::-1][:, :2]
    assert np.abs(points) == pytest.approx(np.abs(wanted), rel=1e-3, abs=1e-4)
    assert share == pytest.approx(sizes[-2:].sum() / sizes.sum(), rel=1e-4)
    assert flattened(np.ones((3, 4), np.float32))[1] == 0.0
