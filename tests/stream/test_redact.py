"""No credential of an address is ever shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psm_stream.redact import name_of, redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://admin:secret@10.0.0.5:554/live", "rtsp://***@10.0.0.5:554/live"),
        ("rtsp://admin@10.0.0.5/live", "rtsp://***@10.0.0.5/live"),
        ("RTSPS://a:b@cam.lab/1", "RTSPS://***@cam.lab/1"),
        ("rtsp://admin:p@ss/w?rd@cam/live", "rtsp://***@cam/live"),
        ("rtsp://cam/live?token=abc&channel=1", "rtsp://cam/live?token=***&channel=1"),
        ("rtsp://cam/user=admin&password=x&stream=0.sdp", "rtsp://cam/user=***&password=***&stream=0.sdp"),
        ("rtsp://cam/live?transportmode=unicast", "rtsp://cam/live?transportmode=unicast"),
        ("rtsp://cam/live?pass=a=b", "rtsp://cam/live?pass=***"),
        ("cannot open 'rtsp://u:pw@cam/x': 401", "cannot open 'rtsp://***@cam/x': 401"),
        ("a rtsp://u:p@c/x and rtsp://v:q@d/y", "a rtsp://***@c/x and rtsp://***@d/y"),
        ("rtsp://cam.lab:8554/live", "rtsp://cam.lab:8554/live"),
        ("mail me@home, 3 = 2 + 1", "mail me@home, 3 = 2 + 1"),
    ],
)
def test_addresses(text, shown):
    assert redact(text) == shown
    assert redact(shown) == shown


def test_a_known_login_is_hidden_outside_of_addresses_too():
    url = "rtsp://operator:p%40ss%20word@cam/live"
    assert (
        redact("login operator with 'p@ss word' or p%40ss%20word failed", url) == "login *** with '***' or *** failed"
    )


PART = st.text(
    st.characters(codec="ascii", exclude_characters="\"'<>:@&?;/", categories=("L", "N", "P", "S")), min_size=6
)


@given(user=PART, password=PART, token=PART)
def test_nothing_of_any_login_stays(user, password, token):
    url = f"rtsp://{user}:{password}@host/live?sig={token}"
    assert redact(url, url) == "rtsp://***@host/live?sig=***"
    assert redact(f"at {url}: denied", url) == "at rtsp://***@host/live?sig=*** denied"


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("films/\u00e9t\u00e9 1.mp4", "films/\u00e9t\u00e9 1.mp4"),
        ("a\udcff\nb.mp4", "a\\udcff\\nb.mp4"),
        ("RTSP://user:secret@cam/1", "RTSP://***@cam/1"),
    ],
)
def test_a_name_can_always_be_shown(place, shown):
    assert name_of(place) == shown
    assert shown.encode()
