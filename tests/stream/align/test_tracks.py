"""Face ids."""

from psm_stream.align.tracks import FaceIds, same_place


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
