"""Every protocol that can be named, on people whose features are known."""

import numpy as np
import pytest
from tests.adapt.evaluate.conftest import blendshapes_of, recorded

from psm_adapt.evaluate.clips import clips_of
from psm_adapt.evaluate.features import Model
from psm_adapt.evaluate.labels import read_labels
from psm_adapt.evaluate.protocols import GROUPS, PROTOCOLS
from psm_adapt.evaluate.subject import Subject
from psm_adapt.networks import Design, build_networks
from psm_stream.errors import AdaptationError

LIGHT = Design(generator="light", stem="learned", perceptual="none", init="he")
MODEL = Model("known", "baseline", lambda clip, _: np.zeros((len(clip), 1)))
COUNT = 300


@pytest.fixture
def subject(make_store):
    """Three people whose features are their labels, and whose numbers in a row tell the time."""
    people = [recorded(name, name, COUNT, blendshapes=blendshapes_of(COUNT, ord(name))) for name in "abc"]
    coding = read_labels("blendshapes", clips_of([make_store(*people)]))
    clips = tuple(coded.clip for coded in coding.recordings)
    features = tuple(coded.labels.astype(np.float64) for coded in coding.recordings)
    return Subject(MODEL, clips, features, coding, ("a", "c"))


def changed(subject: Subject, **fields) -> Subject:
    names = ("model", "clips", "features", "coding", "tested")
    return Subject(**{name: fields.get(name, getattr(subject, name)) for name in names})


def alone(subject: Subject) -> Subject:
    coding = type(subject.coding)(subject.coding.units, "", subject.coding.recordings[:1])
    return changed(subject, clips=subject.clips[:1], features=subject.features[:1], coding=coding, tested=("a",))


@pytest.mark.parametrize("name", ["probe", "person-dependent", "person-independent"])
def test_perfect_features(subject, name):
    measures = PROTOCOLS[name].measure(subject)
    assert measures
    for measure in measures:
        assert measure.kind.key.split(".")[0] == name
        assert measure.value > 0.9
        assert measure.trouble == ""
        assert max(measure.by_unit.values()) <= 1


@pytest.mark.parametrize("name", ["probe", "person-dependent", "retrieval"])
def test_only_tested_people_count(subject, name):
    for measure in PROTOCOLS[name].measure(subject):
        assert set(measure.by_person) == set(measure.table) == {"a", "c"}
        means = [np.mean(list(row.values())) for row in measure.table.values()]
        assert measure.value == pytest.approx(np.mean(means))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_one_person_alone(subject, name):
    for measure in PROTOCOLS[name].measure(alone(subject)):
        needs_others = measure.kind.key in ("probe.across", "person-independent.folds", "retrieval.top5")
        assert ("people or more, there is 1" in measure.trouble) == needs_others
        assert np.isnan(measure.value) == bool(measure.trouble)


@pytest.mark.parametrize("name", [name for name, protocol in PROTOCOLS.items() if protocol.needs_labels])
def test_labels_that_never_change_are_said_to_be_the_trouble(subject, name):
    for coded in subject.coding.recordings:
        coded.labels[:] = False
        coded.is_frequent[:] = False
    for measure in PROTOCOLS[name].measure(subject):
        assert np.isnan(measure.value)
        assert "positive" in measure.trouble


@pytest.mark.parametrize("name", [name for name, protocol in PROTOCOLS.items() if protocol.needs_labels])
def test_without_labels(subject, name):
    with pytest.raises(AdaptationError, match="needs labels"):
        PROTOCOLS[name].measure(changed(subject, coding=None))


def test_published_details(subject):
    random, blocked = PROTOCOLS["person-dependent"].measure(subject)
    for measure in (random, blocked):
        assert measure.details["pairs"] == sum(len(row) for row in measure.table.values())
        assert measure.details["bootstraps"]["count"] == 200
        assert measure.details["bootstraps"]["low"] <= measure.value + 0.02
    (folds,) = PROTOCOLS["person-independent"].measure(subject)
    assert folds.details["bootstraps"]["count"] == 300
    assert [fold["people"] for fold in folds.details["folds"]] == [["a"], ["b"], ["c"]]
    assert folds.value == pytest.approx(np.mean([fold["f1"] for fold in folds.details["folds"]]))


def test_retrieval_finds_and_draws_its_sheet(subject):
    (measure,) = PROTOCOLS["retrieval"].measure(subject)
    assert measure.details["by_chance"] < 0.5
    assert measure.value > measure.details["by_chance"] + 0.4
    height, width, _ = measure.picture.shape
    assert (width // 128, height // 128) == (6, 2)  # a query and five found, for each tested person


def test_ranking_of_a_clock(subject):
    clocks = tuple(np.arange(COUNT, dtype=float)[:, None] for _ in subject.clips)
    (measure,) = PROTOCOLS["ranking"].measure(changed(subject, features=clocks))
    assert measure.by_person == {"a": 1.0, "c": 1.0}


@pytest.mark.parametrize("name", ["neutral", "noise"])
def test_an_encoder_alone_draws_no_faces(subject, name):
    (measure,) = PROTOCOLS[name].measure(subject)
    assert measure.trouble == "an encoder alone draws no faces; give a checkpoint"


def test_neutral_faces_and_noise(subject, monkeypatch):
    monkeypatch.setattr("psm_adapt.evaluate.viewing.NEUTRAL_FRAMES", 6)
    networks = build_networks(LIGHT, 0)
    drawing = changed(subject, model=Model("m", "checkpoint", MODEL.of, networks=lambda: networks))
    (neutral,) = PROTOCOLS["neutral"].measure(drawing)
    assert set(neutral.by_person) == {"a", "c"}
    assert neutral.kind.is_error
    assert neutral.details["of_inputs"]["a"] > 1
    (noise,) = PROTOCOLS["noise"].measure(drawing)
    assert noise.value > 0
    assert noise.details["of_inputs"] == pytest.approx(45.3, abs=0.5)


def test_groups_name_protocols():
    assert {name for names in GROUPS.values() for name in names} <= set(PROTOCOLS)
    assert not set(GROUPS) & set(PROTOCOLS)
