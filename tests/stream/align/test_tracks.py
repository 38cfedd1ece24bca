"""Face ids."""

from psm_stream.align.tracks import FaceIds, same_place, still_followed


def test_ids_start_at_zero_and_are_kept_by_place() -> None:
    ids = FaceIds()
    assert ids.take((100, 100, 50), set()) == 0
    ids.seen(0, (100, 100, 50))
    assert ids.take((400, 100, 50), {0}) == 1
    ids.seen(1, (400, 100, 50))
    # both are lost; the one on the right comes back first
    assert ids.take((410, 95, 50), set()) == 1
    assert ids.take((95, 95, 50), {1}) == 0


def test_one_person_alone_is_always_face_zero() -> None:
    ids = FaceIds()
    for x in (0, 500, 1000):  # lost and found again elsewhere
        assert ids.take((x, 100, 50), set()) == 0
        ids.seen(0, (x, 100, 50))


def test_same_place() -> None:
    assert same_place((0, 0, 100), (40, 0, 80))
    assert not same_place((0, 0, 100), (60, 0, 80))


def test_followed_faces_keep_their_ids_whatever_the_order_and_whoever_comes() -> None:
    before = {0: (100.0, 100.0, 50.0), 1: (300.0, 100.0, 50.0)}
    newcomer = (140.0, 100.0, 200.0)  # large, and near enough to be taken for face 0
    assert still_followed(before, [newcomer, (305, 100, 50), (98, 100, 50)]) == {1: 1, 2: 0}


def test_the_nearest_pair_counts_first() -> None:
    before = {0: (100.0, 100.0, 80.0), 1: (130.0, 100.0, 80.0)}
    assert still_followed(before, [(128, 100, 80), (110, 100, 80)]) == {0: 1, 1: 0}


def test_one_that_is_elsewhere_is_not_followed() -> None:
    assert still_followed({0: (100, 100, 50)}, [(400, 100, 50)]) == {}
    assert still_followed({0: (100, 100, 50)}, []) == {}
    assert still_followed({}, [(100, 100, 50)]) == {}
