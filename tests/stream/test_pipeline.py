"""The pipeline as a fold: what follows from which input."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from psm_stream.pipeline import Pipeline
from psm_stream.values import AlignedFace, Embedding, Faces, Input, Marker, NoFace, Notice, Stamp, SwapEncoder


class FakeEncoder:
    """Encodes a crop as its mean, scaled, so that a vector tells which encoder made it."""

    def __init__(self, model_id: str, scale: float) -> None:
        self.model_id = model_id
        self.trained = False
        self._scale = scale

    def encode(self, crop: np.ndarray) -> np.ndarray:
        return np.array([crop.mean() * self._scale], np.float32)


def face(index: int, face_id: int = 0) -> AlignedFace:
    crop = np.full((32, 32, 3), index % 256, np.uint8)
    return AlignedFace(Stamp(index, index / 30), face_id, crop, np.zeros((478, 2)), np.zeros((2, 3)), 1.0)


def faces(index: int, *ids: int) -> Faces:
    return Faces(Stamp(index, index / 30), tuple(face(index, face_id) for face_id in ids))


def embeddings(results: list[list[object]]) -> list[Embedding]:
    return [result for step in results for result in step if isinstance(result, Embedding)]


def run(inputs: list[Input]) -> list[list[object]]:
    pipeline = Pipeline(FakeEncoder("aaa", 1.0))  # type: ignore[arg-type]
    return [list(pipeline.step(item)) for item in inputs]


def test_one_embedding_per_face_in_order_of_id() -> None:
    made = embeddings(run([faces(0, 0, 1), faces(1, 1)]))
    assert [(e.face.frame.index, e.face.face_id, float(e.vector[0])) for e in made] == [(0, 0, 0), (0, 1, 0), (1, 1, 1)]


def test_presence_is_told_once_per_change() -> None:
    results = run(
        [faces(0, 0), faces(1, 0, 1), NoFace(Stamp(2, 0.1), "gone"), NoFace(Stamp(3, 0.1), "gone"), faces(4, 0)]
    )
    told = [
        (n.subject, n.fields["face_id"], n.fields["frame_index"]) for s in results for n in s if isinstance(n, Notice)
    ]
    assert told == [
        ("face.found", 0, 0),
        ("face.found", 1, 1),
        ("face.lost", 0, 2),
        ("face.lost", 1, 2),
        ("face.found", 0, 4),
    ]


def test_the_sources_truth_becomes_a_marker() -> None:
    labelled = NoFace(Stamp(5, 1.5, label="smile 0.50"), "none")
    (marker,) = [result for result in run([labelled])[0] if isinstance(result, Marker)]
    assert (marker.label, marker.origin, marker.t, marker.fields) == ("smile 0.50", "source", 1.5, {"frame_index": 5})


@given(st.integers(1, 20), st.integers(0, 19))
def test_a_swap_changes_nothing_before_it_and_mixes_no_frame(count: int, at: int) -> None:
    frames: list[Input] = [faces(n, 0, 1) for n in range(count)]
    swap = SwapEncoder(FakeEncoder("bbb", 2.0), "test")  # type: ignore[arg-type]
    plain = embeddings(run(frames))
    swapped_results = run([*frames[:at], swap, *frames[at:]])
    swapped = embeddings(swapped_results)
    assert [e.vector.tobytes() for e in swapped[: 2 * at]] == [e.vector.tobytes() for e in plain[: 2 * at]]
    for embedding in swapped[2 * at :]:
        assert (embedding.model_id, embedding.model_epoch) == ("bbb", 1)
        assert embedding.vector[0] == 2 * embedding.face.crop.mean()
    notices = [n for step in swapped_results for n in step if isinstance(n, Notice) and n.subject == "model.swapped"]
    if at < count:
        assert [(n.fields["old"], n.fields["new"], n.fields["frame_index"]) for n in notices] == [("aaa", "bbb", at)]
    else:
        assert notices == []  # no frame came after it


def test_only_the_last_of_two_swaps_between_frames_is_taken() -> None:
    first, second = (SwapEncoder(FakeEncoder(name, 1.0), "test") for name in ("bbb", "ccc"))  # type: ignore[arg-type]
    (embedding,) = embeddings(run([first, second, faces(0, 0)]))
    assert (embedding.model_id, embedding.model_epoch) == ("ccc", 1)


def test_the_same_inputs_give_the_same_results() -> None:
    inputs: list[Input] = [faces(0, 0), Marker("go", 0.1, "remote"), NoFace(Stamp(1, 0.2), "none"), faces(2, 0, 1)]
    inputs += [faces(3, 0)]
    one, two = run(inputs), run([replace(item) for item in inputs])
    assert [e.vector.tobytes() for e in embeddings(one)] == [e.vector.tobytes() for e in embeddings(two)]
    assert [[type(r) for r in step] for step in one] == [[type(r) for r in step] for step in two]
