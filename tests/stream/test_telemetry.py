"""The account of frames."""

import json

from hypothesis import given
from hypothesis import strategies as st

from psm_stream.telemetry import Telemetry
from psm_stream.testing import ManualClock
from psm_stream.values import NoFace, Stamp

GAP = st.dictionaries(st.sampled_from(["slot", "decode"]), st.integers(1, 5))


@given(st.lists(GAP), GAP, st.integers(0, 9))
def test_captured_is_processed_plus_dropped_at_every_moment(
    gaps: list[dict[str, int]], tail: dict[str, int], on_their_way: int
) -> None:
    clock = ManualClock()
    telemetry = Telemetry(clock)
    index = -1
    for gap in gaps:
        index += 1 + sum(gap.values())
        telemetry.count(NoFace(Stamp(index, clock(), dropped=gap), "none"))
        frames = telemetry.summary({})["frames"]
        assert frames["captured"] == frames["processed"] + sum(frames["dropped"].values()) == index + 1
    captured = index + 1 + sum(tail.values()) + on_their_way
    telemetry.count_rest(captured, tail)
    frames = telemetry.summary({})["frames"]
    assert frames["captured"] == frames["processed"] + sum(frames["dropped"].values()) == captured
    assert frames["dropped"].get("stop", 0) == on_their_way


def test_summary_is_plain_json_with_the_promised_keys() -> None:
    clock = ManualClock()
    telemetry = Telemetry(clock)
    telemetry.start()
    clock.advance(2.0)
    telemetry.count(NoFace(Stamp(0, clock()), "none"))
    summary = json.loads(json.dumps(telemetry.summary({"source": "fake"}), allow_nan=False))
    assert summary["seconds"] == 2.0
    assert summary["fps"] == 0.5
    assert {"align", "encode", "cluster", "capture_to_publish"} <= summary["latency_ms"].keys()
    assert {"p50", "p95", "p99", "max"} <= summary["latency_ms"]["align"].keys()
    assert summary["peak_rss_mb"] >= summary["rss_mb"] > 1
