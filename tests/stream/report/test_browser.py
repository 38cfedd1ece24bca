"""The page in a real browser: no errors, nothing asked of the network, and everything is there to be seen."""

import http.server
import json
import re
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.stream.report.stories import a_story, frames

from psm_stream.report.page import page
from psm_stream.report.timeline import LEFT, WIDTH

_BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_QUIETLY = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
_ITSELF = "not an origin"
"""What Chromium's log says of a request that the browser makes for itself."""
_CONSOLE = re.compile(r":CONSOLE[:(]")

pytestmark = pytest.mark.skipif(_BROWSER is None, reason="no Chromium on this machine")


def opened(path: Path, *options: str) -> tuple[str, list[str], set[str]]:
    """Open a page: its DOM, what stood on the console, and which addresses it asked for."""
    home, net = path.with_suffix(".home"), path.with_suffix(".net.json")
    asked = [_BROWSER, *_QUIETLY, f"--user-data-dir={home}", f"--log-net-log={net}", "--enable-logging=stderr"]
    done = subprocess.run([*asked, *options, path.as_uri()], check=False, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    events = [event.get("params", {}) for event in json.loads(net.read_text())["events"]]
    urls = {asked["url"] for asked in events if "url" in asked and asked.get("initiator", _ITSELF) != _ITSELF}
    told = [line for line in done.stderr.splitlines() if _CONSOLE.search(line)]
    return done.stdout, told, {url for url in urls if not url.startswith("data:")}


@pytest.fixture(scope="module")
def server():
    """A place on this machine that a page could ask, and what it was asked for."""
    heard: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            heard.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}", heard
        made.shutdown()
        thread.join()


def test_it_opens_offline_and_shows_everything(session, tmp_path, server):
    address, heard = server
    nasty = f'</svg><img src="{address}/stolen.png"><script src="{address}/evil.js"></script>'
    path = tmp_path / "page.html"
    told = a_story(session, frames(4), names={2: nasty}, markers=[(40, nasty)], swap_at=120, label=nasty)
    path.write_text(page(told), encoding="utf-8")
    picture = tmp_path / "page.png"
    dom, errors, urls = opened(path, "--dump-dom")
    opened(path, f"--screenshot={picture}", "--window-size=1280,2000")
    assert (errors, urls, heard) == ([], set(), [])
    assert dom.count("<article>") == 4
    assert "<script" not in dom
    _is_drawn(picture)


def test_on_a_narrow_screen_the_timeline_scrolls_and_keeps_its_size(session, tmp_path):
    path, lefts = tmp_path / "page.html", []
    path.write_text(page(a_story(session, frames(4))), encoding="utf-8")
    for width in (640, 800):
        picture = tmp_path / f"{width}.png"
        opened(path, f"--screenshot={picture}", f"--window-size={width},700")
        pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
        coloured = (np.abs(pixels - (0xCC, 0x66, 0x77)).sum(axis=2) < 12).any(axis=0)
        lefts.append(int(coloured.argmax()) - 24)  # without the margin
        assert (pixels[:, -20:] == 255).all()
    assert lefts[0] == pytest.approx(LEFT - 14 - 4.5, abs=2)  # the sign beside a row's name
    assert lefts[1] == pytest.approx((LEFT - 14 - 4.5) * (800 - 48) / WIDTH, abs=2)


def test_the_check_sees_what_it_looks_for(tmp_path, server):
    address, heard = server
    path = tmp_path / "bad.html"
    path.write_text(f'<img src="{address}/one.png"><script>console.error("no")</script>', encoding="utf-8")
    _, errors, urls = opened(path, "--dump-dom")
    assert f"{address}/one.png" in urls
    assert "/one.png" in heard
    assert errors


def _is_drawn(picture: Path) -> None:
    """Colours of clusters lie in the timeline's part of the picture, and on nearly no line is anything cut off."""
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    timeline = pixels[200:700, 250:1100]
    for red, green, blue in ((0xCC, 0x66, 0x77), (0x33, 0x22, 0x88), (0x11, 0x77, 0x33)):
        assert (np.abs(timeline - (red, green, blue)).sum(axis=2) < 12).sum() > 500
    assert (pixels[:, :30] == 255).all()
    assert (pixels[:, -30:] == 255).all()
