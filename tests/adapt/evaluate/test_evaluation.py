"""A whole evaluation: models compared in pairs, progress, and what cannot be evaluated."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from tests.adapt.evaluate.conftest import blendshapes_of, recorded

from psm_adapt.data.writer import write_store
from psm_adapt.evaluate.clips import clips_of
from psm_adapt.evaluate.compare import compare
from psm_adapt.evaluate.evaluation import Plan, evaluate
from psm_adapt.evaluate.features import Model
from psm_adapt.evaluate.labels import read_labels
from psm_adapt.evaluate.plots import draw
from psm_adapt.evaluate.report import as_json, as_text
from psm_stream.errors import AdaptationError

COUNT = 300


def model(name: str, noise: float, value: float = 0.0) -> Model:
    """What knows the blendshapes, more or less."""

    def of(clip, tell):
        tell(len(clip))
        drawn = np.random.default_rng(len(name)).normal(size=(len(clip), 52)) * noise
        return clip.store.blendshapes[clip.rows] + drawn + value

    return Model(name, "baseline", of)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    people = [recorded(name, name, COUNT, blendshapes=blendshapes_of(COUNT, ord(name))) for name in "abcd"]
    return tuple(clips_of([write_store(tmp_path_factory.mktemp("people") / "store", people)]))


def plan_of(clips, *models: Model, protocols=("probe",), labels: bool = True) -> Plan:
    coding = read_labels("blendshapes", clips) if labels else None
    return Plan(models, clips, coding, protocols, tuple("abcd"))


class Watching:
    """Takes what it is told."""

    def __init__(self) -> None:
        self.parts: list[tuple[str, int | None]] = []
        self.frames = 0

    def begin(self, what, total):
        self.parts.append((what, total))

    def advance(self, frames):
        self.frames += frames


@pytest.fixture(scope="module")
def done(clips):
    return evaluate(plan_of(clips, model("good", 0.01), model("fair", 0.7), model("worse", 3.0)))


def test_every_two_models_are_compared_over_people(done):
    good, fair, worse = (measures[0].value for measures in done.measures)
    assert good > fair > worse
    names = [(paired.kind.key, paired.first, paired.second) for paired in done.comparisons]
    pairs = [("good", "fair"), ("good", "worse"), ("fair", "worse")]
    assert names == [(key, *pair) for key in ("probe.within", "probe.across") for pair in pairs]
    first, second = (done.measures[n][0].by_person for n in (0, 1))
    expected = compare(*(np.array([scores[person] for person in "abcd"]) for scores in (first, second)))
    assert done.comparisons[0].result == expected
    assert done.comparisons[0].result.mean == pytest.approx(good - fair)
    p = [paired.result.p_wilcoxon for paired in done.comparisons[:3]]
    assert max(paired.p_holm for paired in done.comparisons[:3]) <= 1
    assert done.comparisons[0].p_holm >= p[0]


def test_progress(clips):
    watching = Watching()
    evaluate(plan_of(clips, model("one", 0.1), model("two", 0.1), protocols=("probe", "ranking")), watching)
    of_one = [("one: features", 4 * COUNT), ("one: probe", None), ("one: ranking", None)]
    assert watching.parts[:3] == of_one
    assert len(watching.parts) == 6
    assert watching.frames == 8 * COUNT


def test_json_has_every_number_and_no_nan(done):
    tree = json.loads(json.dumps(as_json(done), allow_nan=False))
    assert tree["schema"] == 1
    assert [entry["name"] for entry in tree["models"]] == ["good", "fair", "worse"]
    assert tree["models"][0]["dimension"] == 52
    within = tree["models"][0]["measures"]["probe.within"]
    assert within["value"] == done.measures[0][0].value
    assert set(within["by_person"]) == set("abcd")
    assert within["table"]["a"]["AU12"] == done.measures[0][0].table["a"]["AU12"]
    assert tree["recordings"][0]["frames"] == COUNT
    assert len(tree["recordings"][0]["positive"]) == 12
    first = tree["comparisons"][0]
    assert (first["measure"], first["first"], first["second"], first["people"]) == ("probe.within", "good", "fair", 4)


def test_text_has_a_column_for_each_model(done):
    lines = as_text(done).split("\n")
    assert lines[0].split() == ["good", "fair", "worse"]
    figures = [f"{measures[0].value:.3f}" for measures in done.measures]
    assert lines[1] == f"probe, within a person, blocked in time  {'  '.join(figures)}"
    assert len({len(line) for line in lines[:3]}) == 1
    assert any("probe, across people: fair - worse = +" in line for line in lines)
    assert lines[-1] == "With fewer than 6 people no signed-rank test can reach p < .05."


def test_what_is_missing_is_said(clips):
    done = evaluate(plan_of(clips[:1], model("one", 0.1)))
    tree = as_json(done)
    across = tree["models"][0]["measures"]["probe.across"]
    assert across["value"] is None
    assert across["trouble"] == "needs 2 people or more, there is 1"
    text = as_text(done)
    assert "probe, across people                         -" in text
    assert "Not measured:\n  probe, across people, one: needs 2 people or more, there is 1" in text
    assert "Compared" not in text


def test_one_person_in_common_is_no_comparison(clips):
    done = evaluate(plan_of(clips[:1], model("one", 0.1), model("two", 0.1)))
    assert done.comparisons == ()
    assert "Compared" not in as_text(done)


def test_untrained_models_are_named(clips):
    raw = model("raw", 0.1)
    plan = plan_of(clips, replace(raw, trained=False), replace(raw, name="done", trained=True), protocols=("ranking",))
    assert "\n\nUntrained: raw\n" in as_text(evaluate(plan))


def test_pictures(done, tmp_path):
    files = draw(done, tmp_path)
    assert [file.name for file in files] == ["probe-within.png", "probe-across.png"]
    for file in files:
        assert file.read_bytes().startswith(b"\x89PNG")


def test_the_sheet_of_each_model_is_kept(clips, tmp_path):
    models = model("one/two", 0.1), model("other", 0.1)
    files = draw(evaluate(plan_of(clips, *models, protocols=("retrieval",))), tmp_path)
    assert [file.name for file in files] == [
        "retrieval-top5.png",
        "retrieval-top5-one_two.png",
        "retrieval-top5-other.png",
    ]


def test_labels_are_not_needed_by_all(clips, tmp_path):
    done = evaluate(plan_of(clips, model("one", 0.1), protocols=("ranking",), labels=False))
    assert done.measures[0][0].value > 0
    tree = as_json(done)
    assert tree["labels"] is None
    assert tree["recordings"][0] == {"name": "a", "person": "a", "frames": COUNT}
    assert len(draw(done, tmp_path)) == 1
    with pytest.raises(AdaptationError, match="protocol probe needs labels; give --labels"):
        evaluate(plan_of(clips, model("one", 0.1), protocols=("ranking", "probe"), labels=False))


def test_nothing_at_all_is_an_error(clips):
    plan = plan_of(clips[:1], model("one", 0.1), protocols=("retrieval", "neutral"))
    with pytest.raises(AdaptationError, match=r"nothing could be measured: retrieval, .*: needs 2 people or more"):
        evaluate(plan)


def test_features_that_are_not_finite(clips):
    with pytest.raises(AdaptationError, match="model bad: its features of recording 'a' are not all finite"):
        evaluate(plan_of(clips, model("bad", 0.1, math.inf)))


def test_nothing_is_encoded_that_no_protocol_needs(clips):
    def of(*_):
        raise AssertionError

    plan = plan_of(clips, Model("one", "baseline", of), protocols=("neutral",), labels=False)
    with pytest.raises(AdaptationError, match="an encoder alone draws no faces"):
        evaluate(plan)
