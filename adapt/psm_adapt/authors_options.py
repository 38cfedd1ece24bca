"""The PSM authors' own YAML files: their option names, and the settings that they mean here.

Source: the six files of the PSM release (Tazi, Berger, Freiwald); docs/training.md has the table for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from psm_stream.cli.common import nearest
from psm_stream.errors import ConfigError

KEYS = {
    "datapath": "data.source",
    "savemodel": "out",
    "custom_data_loader": "approach",
    "persons_to_train": "data.people",
    "loadmodel": "start_from",
    "epochs": "run.epochs",
    "batch_size": "run.batch_size",
    "neu_face_loss_weight": "loss.neutral_weight",
    "initial_lrate": "optimiser.lr",
    "min_lr_to_tolerate": "optimiser.min_lr",
    "num_workers": None,
}
"""Authors' name and our dotted key. num_workers has none: crops come from a memory map, nothing waits."""

LOADERS = {"PSM": "psm", "PSM_wCTL": "psm_ctl", "GM": "gm", "GM_wCTL": "gm_ctl"}
"""Values of custom_data_loader; the transfer approaches are PSM and GM with a loadmodel."""


def are_in(tree: Mapping[str, Any]) -> bool:
    """Say whether a file's keys are the authors' option names. No key of ours has the name of one of theirs."""
    return any(key in KEYS for key in tree)


def translate(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return our settings tree for the authors' options.

    Raises ConfigError: an option that the authors' files do not have, or an unknown custom_data_loader.
    """
    for key in tree:
        if key not in KEYS:
            raise ConfigError(f"unknown option {key!r} in an authors' config{nearest(str(key), list(KEYS))}")
    ours: dict[str, Any] = {}
    for theirs, dotted in KEYS.items():
        if theirs in tree and dotted is not None:
            section, _, leaf = dotted.rpartition(".")
            (ours.setdefault(section, {}) if section else ours)[leaf] = _value(theirs, tree[theirs])
    if ours.get("start_from") is not None and ours.get("approach") in ("psm", "gm"):
        ours["approach"] += "_transfer"
    if "approach" in ours and "out" in ours:
        ours["out"] = str(Path(ours["out"]) / str(tree["custom_data_loader"]))  # as the authors lay it out
    return ours


def _value(key: str, value: Any) -> Any:
    """The authors write 'None' for nothing, and [''] for persons that play no part."""
    if key == "custom_data_loader":
        if value not in LOADERS:
            raise ConfigError(f"custom_data_loader {value!r} is unknown{nearest(str(value), list(LOADERS))}")
        return LOADERS[value]
    if key == "persons_to_train":
        names = [value] if isinstance(value, str) else value
        return ["All"] if isinstance(names, list) and not any(names) else names
    return None if value == "None" else value
