"""People: where each person's own encoders are kept between sessions.

    <home>/people/<name>/<NNN>/     one encoder bundle per accepted model; the highest number is the newest;
                                    what is not named by a number is none of them

home is `PSM_HOME`, or the user's data folder.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def home() -> Path:
    """Return the folder for the user's models and people."""
    chosen = os.environ.get("PSM_HOME")
    return Path(chosen) if chosen else Path(platformdirs.user_data_dir("psm-stream", appauthor=False))


def newest_model(person: str) -> Path | None:
    """Return the bundle folder of a person's newest model, or None when there is none yet."""
    folder = home() / "people" / person
    if not folder.is_dir():
        return None
    models = (bundle for bundle in folder.iterdir() if _is_number(bundle.name) and (bundle / "manifest.json").is_file())
    return max(models, key=lambda bundle: int(bundle.name), default=None)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()
