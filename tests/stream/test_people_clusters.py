"""A person's clusters between sessions: cluster 3 is the same next week, and a file is whole or refused."""

import json
import math
import os
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.stream.people_models import worker_out

from psm_stream import people_clusters
from psm_stream.align.template import EYES_LEVEL, Template
from psm_stream.clusters.clustering import Change, Clustering
from psm_stream.clusters.identity import FIRM, match
from psm_stream.clusters.methods import METHODS
from psm_stream.clusters.reservoir import Reservoir, Row
from psm_stream.config import ClustersSettings
from psm_stream.errors import ClusteringError, ConfigError
from psm_stream.people import everyone, has_clusters, model_of, newest_model, numbers, readable
from psm_stream.people_clusters import MOST, StoredClusters, delete, file_of, load, prototypes, save, seeds
from psm_stream.people_keep import keep
from psm_stream.record.testing import a_face
from psm_stream.values import Assignment, Embedding, Stamp

MODEL = "0123456789ab"
SETTINGS = ClustersSettings(capacity=600, dimensions=8)
FACES = ("neutral", "smile", "frown", "brows", "pucker")


@pytest.fixture(autouse=True)
def psm_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PSM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def a_row(key: int, known: int = 0, vector: Any = None, model_id: str = MODEL) -> Row:
    draw = np.random.default_rng(key)
    crop = draw.integers(0, 256, (8, 8, 3), np.uint8)
    code = draw.normal(size=4) if vector is None else vector
    return Row(key, 0, key, key / 5, crop, np.asarray(code, np.float32), model_id, known)


def some() -> StoredClusters:
    return prototypes([a_row(key, known=key % 3) for key in range(9)], 4, {1: "smile \u263a"})


def same(one: StoredClusters | None, other: StoredClusters) -> bool:
    def plain(row: Row) -> tuple[Any, ...]:
        return (*row_without_arrays(row), row.crop.tobytes(), row.crop.shape, row.vector.tobytes())

    return (
        one is not None
        and (one.next_id, dict(one.names), one.model_id) == (other.next_id, dict(other.names), other.model_id)
        and list(map(plain, one.rows)) == list(map(plain, other.rows))
    )


def row_without_arrays(row: Row) -> tuple[Any, ...]:
    return (row.key, row.face_id, row.frame_index, row.t, row.model_id, row.known)


def test_there_and_back(psm_home: Path) -> None:
    assert load("ada") is None
    stored = some()
    save("ada", stored)
    assert same(load("ada"), stored)
    assert stored.faces == {0: 3, 1: 3, 2: 3}
    assert [row.key for row in seeds(stored, 8)] == [-1 - at for at in range(9)]
    assert {row.t for row in seeds(stored, 8)} == {-math.inf}
    first = file_of("ada").read_bytes()
    save("ada", stored)
    assert file_of("ada").read_bytes() == first
    assert os.listdir(psm_home / "people" / "ada") == ["clusters.npz"]
    with np.load(file_of("ada"), allow_pickle=False) as arrays:  # an independent reader
        assert arrays["clusters"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        assert np.array_equal(arrays["crops"][4], stored.rows[4].crop)
    if os.name == "posix":
        assert file_of("ada").stat().st_mode & 0o077 == 0
        assert file_of("ada").parent.stat().st_mode & 0o077 == 0


def test_clusters_of_crops_by_another_template_are_refused_and_kept() -> None:
    wide = Template("wide", 0.25, 0.45)
    save("ada", replace(some(), template=wide))
    before = file_of("ada").read_bytes()
    stored = load("ada", wide)
    assert stored is not None
    assert stored.template == wide
    assert load("ada") is not None
    with pytest.raises(
        ClusteringError, match=r"of crops by wide .* wants eyes-level-1 .* --clusters.keep false"
    ) as caught:
        load("ada", EYES_LEVEL)
    assert "\n" not in str(caught.value)
    assert file_of("ada").read_bytes() == before
    save("bob", some())
    with zipfile.ZipFile(file_of("bob")) as archive:
        assert b"template" not in archive.read("about.json")
    with pytest.raises(ClusteringError, match="of crops by eyes-level-1"):
        load("bob", wide)


def test_faces_come_back_as_large_as_those_of_the_session_so_that_all_can_be_kept_again() -> None:
    save("ada", some())
    stored = load("ada")
    assert stored is not None
    assert [row.crop.tobytes() for row in seeds(stored, 8)] == [row.crop.tobytes() for row in stored.rows]
    for size_px in (4, 16):
        rows = seeds(stored, size_px)
        assert {row.crop.shape for row in rows} == {(size_px, size_px, 3)}
        assert [int(row.crop.mean()) for row in rows] == pytest.approx([row.crop.mean() for row in stored.rows], abs=4)
        assert not rows[0].crop.flags.writeable
        assert [row.vector.tobytes() for row in rows] == [row.vector.tobytes() for row in stored.rows]


def test_none_are_some_too() -> None:
    nothing = prototypes([a_row(0, known=-1)], 7, {3: "smile"})
    save("ada", nothing)
    assert same(load("ada"), StoredClusters(7, {}, "", ()))


def test_somebody_may_have_clusters_and_no_model(tmp_path: Path) -> None:
    save("ada", some())
    assert everyone() == ["ada"]
    assert (numbers("ada"), newest_model("ada"), readable()) == ([], None, ([], []))
    with pytest.raises(ConfigError, match=r"no models of 'ada' in [^;]*$"):
        model_of("ada")
    keep("ada", worker_out(tmp_path / "out", "a" * 12))
    assert (numbers("ada"), has_clusters("ada")) == ([1], True)
    delete("ada")
    assert (numbers("ada"), has_clusters("ada"), load("ada")) == ([1], False, None)


def test_the_folder_goes_with_the_last_thing_in_it(psm_home: Path) -> None:
    save("ada", some())
    (psm_home / "people" / "ada" / ".keep-999999999-00").write_text("left by a process that is gone")
    delete("ada")
    assert not (psm_home / "people" / "ada").exists()
    delete("ada")


def test_what_is_kept_is_of_one_encoder_and_known() -> None:
    rows = [a_row(key, known=key % 2) for key in range(8)]
    rows += [
        a_row(8, known=-1),
        a_row(9, known=1, model_id="b" * 12),
        a_row(10, known=5, vector=[1], model_id="b" * 12),
    ]
    stored = prototypes(rows, 9, {0: "", 1: "frown", 5: "gone"})
    assert (stored.model_id, stored.next_id, stored.names, stored.faces) == (MODEL, 9, {1: "frown"}, {0: 4, 1: 4})


def test_a_cluster_that_another_took_in_is_kept_apart() -> None:
    rows = [replace(a_row(key), before=3 if key % 2 else -1) for key in range(6)]
    stored = prototypes(rows, 4, {3: "smile"})
    assert (stored.faces, stored.names) == ({0: 3, 3: 3}, {3: "smile"})
    assert {row.before for row in stored.rows} == {-1}


def test_what_is_kept_is_drawn_from_all_of_a_cluster() -> None:
    rows = [a_row(key, known=key % 2, vector=[key]) for key in range(1000)]
    kept = prototypes(rows, 2, {})
    assert kept.faces == {0: MOST, 1: MOST}
    assert prototypes(rows, 2, {}).faces == kept.faces
    assert same(prototypes(rows, 2, {}), kept)
    for cluster in (0, 1):
        drawn = np.array([row.vector[0] for row in kept.rows if row.known == cluster])
        assert len(set(drawn.tolist())) == MOST
        assert all((drawn % 2) == cluster)
        assert 350 < drawn.mean() < 650  # of 0..999, by chance within 100 of the middle in 19 of 20


def a_clustering(model_id: str = MODEL) -> Clustering:
    settings = ClustersSettings(min_samples=2, min_cluster_size=3)
    points = (
        np.repeat(np.eye(4, dtype=np.float32)[:3] * 9, 5, axis=0) + np.linspace(0, 0.1, 15, dtype=np.float32)[:, None]
    )
    made = METHODS["hdbscan"].fit(points, settings)
    return Clustering("hdbscan", model_id, 7, np.array([2, 0, 1], np.int32), (Change("born", 1),), made.fitted, 15)


def test_the_clustering_is_kept_if_it_is_of_the_faces_encoder() -> None:
    rows = [a_row(key, known=key % 3, vector=np.eye(4)[key % 3] * 9) for key in range(9)]
    save("ada", prototypes(rows, 3, {}, a_clustering()))
    known = load("ada")
    assert known is not None
    assert known.clustering is not None
    before, after = a_clustering(), known.clustering
    assert (after.method, after.model_id, after.version, after.changes) == ("hdbscan", MODEL, 1, ())
    one, other = (METHODS["hdbscan"].assigner(each.fitted) for each in (before, after))
    for row in rows:
        assert one(row.vector) == other(row.vector)
    assert prototypes(rows, 3, {}, a_clustering("b" * 12)).clustering is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"model_id": "b" * 12}, "its clustering does not fit its faces"),
        ({"ids": np.array([0, 1, 3], np.int32)}, "its clustering does not fit its faces"),
        ({"fitted": {}}, "has a clustering that is damaged: KeyError"),
        ({"method": "optics"}, "has a clustering by 'optics'; this version knows hdbscan"),
    ],
)
def test_a_clustering_that_does_not_fit_is_refused(change: dict[str, Any], why: str) -> None:
    rows = [a_row(key, known=key % 3, vector=np.eye(4)[key % 3] * 9) for key in range(9)]
    stored = prototypes(rows, 3, {}, a_clustering())
    assert stored.clustering is not None
    save("ada", replace(stored, clustering=replace(stored.clustering, **change)))
    with pytest.raises(ClusteringError, match=why):
        load("ada")


# Two sessions


@dataclass
class Session:
    """A run's clusters without its threads: frames come in, are fitted on now and then, and kept at the end."""

    known: StoredClusters | None = None
    next_id: int = 0
    alive: frozenset[int] = frozenset()
    firm: dict[int, int] = field(default_factory=dict)
    assign: Callable[[NDArray[np.float32]], int] = lambda _: -1
    seen: list[tuple[str, int]] = field(default_factory=list)
    clustering: Clustering | None = None

    def __post_init__(self) -> None:
        self.reservoir = Reservoir(SETTINGS)
        if self.known is not None:
            self.next_id = self.known.next_id
            self.reservoir.seed(seeds(self.known, 8))
            self.firm = {row.known: FIRM for row in self.reservoir.rows()}
            self.alive = frozenset(self.firm)
            assert self.known.clustering is not None
            self.take(self.known.clustering)

    def fit(self) -> None:
        rows = self.reservoir.rows()
        vectors = np.stack([row.vector for row in rows])
        made = METHODS["hdbscan"].fit(vectors, SETTINGS)
        known = np.array([row.known for row in rows], np.int32)
        before = np.array([row.before for row in rows], np.int32)
        matching = match(known, made.labels, self.alive, self.next_id, before=before, firm=self.firm)
        self.alive, self.next_id = matching.alive, matching.next_id
        keys = [row.key for row in rows]
        self.reservoir.update(keys, vectors=None, model_id=MODEL, known=matching.known, before=matching.before)
        self.firm = matching.firm
        self.take(Clustering("hdbscan", MODEL, 1, matching.ids, (), made.fitted, len(rows)))

    def take(self, clustering: Clustering) -> None:
        self.clustering = clustering
        assigner, ids = METHODS["hdbscan"].assigner(clustering.fitted), np.append(clustering.ids, -1)
        self.assign = lambda vector: int(ids[assigner(vector)[0]])

    def watch(self, faces: list[tuple[str, NDArray[np.float32]]]) -> None:
        for name, vector in faces:
            index = len(self.seen)
            cluster = self.assign(vector)
            self.seen.append((name, cluster))
            face = replace(a_face(Stamp(index, index / 5), size_px=8), confidence=0.99)
            self.reservoir.offer(Embedding(face, vector, MODEL, 0, Assignment(cluster)), all_of_them=True)

    def means(self, since: int = 0) -> dict[str, int]:
        """The cluster that each expression was mostly in."""
        counts: dict[str, Counter[int]] = {}
        for name, cluster in self.seen[since:]:
            counts.setdefault(name, Counter())[cluster] += 1
        return {name: count.most_common(1)[0][0] for name, count in counts.items()}


def expressions(seed: int, count: int, names: tuple[str, ...] = FACES) -> list[tuple[str, NDArray[np.float32]]]:
    """Codes of a face that rests half of the time, and else makes a face: it comes up, stays and goes again."""
    draw = np.random.default_rng(seed)
    codes: list[tuple[str, NDArray[np.float32]]] = []
    turns: list[str] = []
    while len(codes) < count:
        turns = turns or draw.permutation(names).tolist()
        name = turns.pop()
        way = np.zeros(16)
        way[(*FACES, "wink").index(name)] = name != "neutral"
        for strength in (0, 0, 0.3, 0.6, 0.9, 1, 1, 1, 1, 1, 0.9, 0.5, 0, 0):
            code = strength * way * draw.uniform(0.9, 1.1) + draw.normal(0, 0.06, 16)
            codes.append((name if strength >= 0.9 else "neutral" if strength == 0 else "", code.astype(np.float32)))
    return codes[:count]


def test_cluster_3_is_the_same_next_week() -> None:
    monday = Session()
    monday.watch(expressions(1, 400))
    monday.fit()
    monday.watch(expressions(2, 300))
    meant = {name: cluster for name, cluster in monday.means(since=400).items() if name}
    assert len(set(meant.values()) - {-1}) == len(FACES)
    save("ada", prototypes(monday.reservoir.rows(), monday.next_id, {meant["smile"]: "smile"}, monday.clustering))

    tuesday = Session(load("ada"))
    tuesday.watch(expressions(3, 200))  # known from the first face on, by Monday's clustering
    assert {name: cluster for name, cluster in tuesday.means().items() if name} == meant
    for seed, names in ((4, FACES[:3]), (5, (*FACES, "wink"))):  # some stay away, one is new
        tuesday.fit()
        tuesday.watch(expressions(seed, 300, names))
    tuesday.fit()
    tuesday.watch(expressions(6, 300, (*FACES, "wink")))
    now = {name: cluster for name, cluster in tuesday.means(since=800).items() if name}
    wink = now.pop("wink")
    assert now == meant
    assert wink >= monday.next_id
    save("ada", prototypes(tuesday.reservoir.rows(), tuesday.next_id, {}, tuesday.clustering))

    wednesday = Session(load("ada"))
    wednesday.watch(expressions(7, 200, (*FACES, "wink")))
    assert {name: cluster for name, cluster in wednesday.means().items() if name} == {**meant, "wink": wink}


def test_without_what_was_kept_the_ids_are_others() -> None:
    """Or the test above would show nothing."""
    monday, tuesday = Session(), Session()
    for session, seed in ((monday, 1), (tuesday, 3)):
        session.watch(expressions(seed, 400))
        session.fit()
        session.watch(expressions(seed + 1, 300))
    assert monday.means(since=400) != tuesday.means(since=400)


# What is damaged, foreign or interrupted


def rewritten(file: Path, **changed: Any) -> None:
    """Write a file of clusters again, with other members; None leaves one away."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            stem = name.partition(".")[0]
            if stem not in changed:
                archive.writestr(name, content)
            elif isinstance(changed[stem], np.ndarray):
                with archive.open(name, "w") as member:
                    np.lib.format.write_array(member, changed[stem])
            elif changed[stem] is not None:
                archive.writestr(name, json.dumps({**json.loads(content), **changed[stem]}))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"about": {"schema": 2}}, "is wrong at schema"),
        ({"about": {"next_id": 2**31 - 1}}, "is wrong at next_id"),
        ({"about": {"next_id": 2}}, "it has clusters beyond its next id"),
        ({"about": {"names": {"3": "smile"}}}, "it names clusters that it has not"),
        ({"about": {"names": {"1": "a\nb"}}}, "its names hold what cannot be shown"),
        ({"about": {"names": {"1": "a" * 300}}}, "is wrong at names.1"),
        ({"about": {"model_id": "../x"}}, "is wrong at model_id"),
        ({"about": None}, "no item named 'about.json'"),
        ({"crops": None}, "no item named 'crops.npy'"),
        ({"crops": np.zeros((9, 8, 7, 3), np.uint8)}, "its faces are 8 x 7 x 3"),
        ({"crops": np.zeros((9, 0, 0, 3), np.uint8)}, "its faces are 0 x 0 x 3"),
        ({"crops": np.zeros((8, 8, 8, 3), np.uint8)}, "its arrays do not fit each other"),
        ({"clusters": np.full(9, -1, np.int32)}, "it has clusters beyond its next id"),
        ({"vectors": np.full((9, 4), np.nan, np.float32)}, "its vectors are not finite"),
        ({"vectors": np.zeros((9, 4), np.float64)}, r"vectors are float64 \[9, 4\]"),
        ({"vectors": np.array([{}] * 9, object)}, "allow_pickle=False"),
    ],
)
def test_a_foreign_file_is_refused_in_one_line(changed: dict[str, Any], why: str) -> None:
    save("ada", some())
    rewritten(file_of("ada"), **changed)
    with pytest.raises(ClusteringError, match=why) as caught:
        load("ada")
    said = str(caught.value)
    assert said.startswith("ada's clusters are damaged: ")
    assert said.endswith("people delete ada --clusters removes them, --clusters.keep false does without")
    assert "\n" not in said


def test_any_changed_byte_that_matters_is_found() -> None:
    stored = some()
    save("ada", stored)
    content = file_of("ada").read_bytes()
    found = 0
    for place in range(0, len(content), 7):
        file_of("ada").write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        try:
            assert same(load("ada"), stored)  # a byte that nobody reads, as a date
        except ClusteringError:
            found += 1
    assert found > len(content) / 7 * 0.8
    for size in (0, 10, len(content) // 2, len(content) - 1):
        file_of("ada").write_bytes(content[:size])
        with pytest.raises(ClusteringError, match="cannot be read"):
            load("ada")


def test_a_bomb_is_not_unpacked() -> None:
    save("ada", some())
    with zipfile.ZipFile(file_of("ada"), "a") as archive:
        archive.writestr("more", "x")
        archive.infolist()[-1].file_size = 2 << 30
    with pytest.raises(ClusteringError, match="more than 1 GiB; refused"):
        load("ada")


def test_a_disk_that_refuses_leaves_what_was(psm_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save("ada", some())
    before = file_of("ada").read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(people_clusters, "_write", full)
    with pytest.raises(ClusteringError, match=r"cannot keep the clusters of ada in .*: No space left on device"):
        save("ada", some())
    assert os.listdir(psm_home / "people" / "ada") == ["clusters.npz"]
    assert file_of("ada").read_bytes() == before
    with pytest.raises(ConfigError, match="a person cannot be called"):
        save("../ada", some())


_WRITER = """
import os, sys
import numpy as np
from psm_stream import people_clusters
from psm_stream.clusters.reservoir import Row
who = int(sys.argv[1])
vector = np.full(4, who, np.float32)
rows = [Row(key, 0, key, 0.0, np.full((64, 64, 3), who, np.uint8), vector + key, "0" * 12, who) for key in range(40)]
stored = people_clusters.prototypes(rows, 10, {})
if who == 9:
    os.fsync = lambda _: os._exit(9)
for _ in range(30):
    people_clusters.save("ada", stored)
"""


def test_a_crash_leaves_what_was_and_is_swept_up(psm_home: Path) -> None:
    save("ada", some())
    done = subprocess.run([sys.executable, "-c", _WRITER, "9"], timeout=60, check=False)
    assert done.returncode == 9
    assert len(os.listdir(psm_home / "people" / "ada")) == 2
    assert same(load("ada"), some())
    save("ada", some())
    assert os.listdir(psm_home / "people" / "ada") == ["clusters.npz"]


def test_of_several_sessions_the_last_wins_and_none_is_half() -> None:
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, str(who)]) for who in (1, 2)]
    seen = set()
    try:
        while any(writer.poll() is None for writer in writers):
            stored = load("ada")
            if stored is not None:
                assert {row.crop.max() for row in stored.rows} == {row.known for row in stored.rows}
                seen |= set(stored.faces)
        assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert seen
    assert seen <= {1, 2}
    assert file_of("ada").parent.joinpath("clusters.npz").is_file()
    assert os.listdir(file_of("ada").parent) == ["clusters.npz"]
