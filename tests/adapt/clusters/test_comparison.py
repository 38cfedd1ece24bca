"""Two models' clusters of the same people: which frames, whose scale, what is counted, and the report."""

import json

import numpy as np
import pytest
from tests.adapt.clusters.conftest import BLUNT, COUNT, GOOD, SETTINGS, shapes

from psm_adapt.clusters.comparison import Plan, compare_clusters, evenly
from psm_adapt.clusters.novel import novelty
from psm_adapt.clusters.plots import draw
from psm_adapt.clusters.report import as_json, as_text, name_of
from psm_adapt.clusters.sweep import cluster_count, noise_share, standard, sweep
from psm_adapt.evaluate.clips import Clip
from psm_adapt.evaluate.features import Model
from psm_stream.errors import AdaptationError


def test_each_person_is_compared_over_all_their_recordings(result, coding):
    ann, bob = result.people
    assert (ann.person, ann.frames, bob.frames) == ("ann", COUNT - 1 + 60, 90)
    clips = [coded.clip for coded in coding.recordings[:2]]
    units = np.concatenate([coded.labels for coded in coding.recordings[:2]])
    first, second = (
        sweep(standard(np.concatenate([model.of(clip, print) for clip in clips])), SETTINGS) for model in (GOOD, BLUNT)
    )
    for setting, at in ann.by_setting.items():
        assert at.clusters == (cluster_count(first[setting]), cluster_count(second[setting]))
        assert at.noise == (noise_share(first[setting]), noise_share(second[setting]))
        assert at.novelty.novel_first == novelty(first[setting], second[setting], units).novel_first
    counts = [at.clusters for at in ann.by_setting.values()]
    assert ann.mean_clusters() == pytest.approx(tuple(np.mean(counts, axis=0)))
    assert result.clusters.people == 2
    differences = [person.mean_clusters()[0] - person.mean_clusters()[1] for person in result.people]
    assert result.clusters.mean == pytest.approx(np.mean(differences))


def test_a_model_next_to_itself(coding):
    same = compare_clusters(Plan((GOOD, GOOD), coding, SETTINGS))
    assert same.clusters.mean == same.novel.mean == 0
    assert all(at.novelty.novel_first == () for person in same.people for at in person.by_setting.values())


def test_the_other_way_round(result, coding):
    turned = compare_clusters(Plan((BLUNT, GOOD), coding, SETTINGS))
    assert turned.clusters.mean == -result.clusters.mean
    assert turned.novel.mean == -result.novel.mean


def test_frames_are_spread_over_all_recordings(coding):
    seen: list[np.ndarray] = []

    def of(clip: Clip, _: object) -> np.ndarray:
        seen.append(clip.rows)
        return shapes(clip)[:, :3]

    few = compare_clusters(Plan((Model("spy", "baseline", of), GOOD), coding, SETTINGS, frames=60))
    assert [person.frames for person in few.people] == [60, 60]
    assert [len(rows) for rows in seen] == [40, 20, 60]
    np.testing.assert_array_equal(np.diff(seen[1]), 3)


def test_evenly():
    assert evenly(3, 5).tolist() == [0, 1, 2]
    assert evenly(10, 4).tolist() == [0, 2, 5, 7]
    for count in range(1, 30):
        for wanted in range(1, 30):
            chosen = evenly(count, wanted)
            assert len(set(chosen.tolist())) == len(chosen) == min(count, wanted)
            assert 0 <= chosen[0] <= chosen[-1] < count


def test_finest_is_where_both_have_most(result):
    person = result.people[0]
    best = person.by_setting[person.finest()].clusters
    assert min(best) == max(min(at.clusters) for at in person.by_setting.values())


def test_json_is_complete_and_plain(result, coding):
    tree = json.loads(json.dumps(as_json(result), allow_nan=False))
    assert [model["name"] for model in tree["models"]] == ["good", "blunt"]
    ann = tree["people"][0]
    assert len(ann["by_setting"]) == len(tree["settings"]) == 6
    finest = ann["finest"]
    assert [len(finest["likeness"]), len(finest["likeness"][0])] == [len(finest["first"]), len(finest["second"])]
    assert len(finest["first"][0]["frequencies"]) == len(coding.units)
    assert tree["clusters_first_minus_second"]["people"] == 2


def test_text(result):
    text = as_text(result)
    heading = "frames clusters good blunt noise good blunt novel good blunt"
    assert " ".join(text.split("\n")[0].split()) == heading
    assert "Means over 6 settings of DBSCAN (standard vectors)." in text
    assert "Clusters, good - blunt: " in text
    for person in result.people:
        novel = person.by_setting[person.finest()].novelty.novel_first
        assert all(f"novel: {name_of('good', label)}:" in text for label in novel)
    assert name_of("PSM", -1) == "PSM_noise"


def test_one_person_is_no_sample(coding):
    alone = type(coding)(coding.units, coding.source, coding.recordings[2:])
    assert "one person" in as_text(compare_clusters(Plan((GOOD, BLUNT), alone, SETTINGS)))


def test_the_figure(result, tmp_path):
    draw(result, tmp_path / "clusters.png")
    assert (tmp_path / "clusters.png").stat().st_size > 20_000


def test_too_few_frames(coding):
    with pytest.raises(AdaptationError, match="ann has 3 labelled frames; 6 are the least for min_samples 6"):
        compare_clusters(Plan((GOOD, BLUNT), coding, SETTINGS, frames=3))


def test_features_that_are_not_finite(coding):
    broken = Model("broken", "baseline", lambda clip, _: np.full((len(clip), 2), np.nan))
    with pytest.raises(AdaptationError, match="model broken: its features of ann are not all finite"):
        compare_clusters(Plan((GOOD, broken), coding, SETTINGS))
