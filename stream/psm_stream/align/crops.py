"""Which crops a run makes, and which encoders can take them.

A run has one kind of crop from beginning to end: that of the encoder it starts with. Another encoder can take over, by
a swap or REVERT, if its crops are by the same template and these are large enough; none is ever given others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from psm_stream.align.template import EYES_LEVEL, Template
from psm_stream.bundle import Manifest
from psm_stream.errors import ConfigError

SIZE_PX = 128
"""Side of crops where no bundle asks for another."""


@dataclass(frozen=True, slots=True)
class Crops:
    """The crops of a run: square, `size_px` px wide, eyes where `template` says."""

    template: Template = EYES_LEVEL
    size_px: int = SIZE_PX

    def as_dict(self) -> dict[str, Any]:
        """Return the template as plain values: name, eye_distance, eye_line_y."""
        return asdict(self.template)


def template_of(manifest: Manifest) -> Template:
    """Return the template that a bundle's encoder wants."""
    wanted = manifest.alignment
    return Template(wanted.template, wanted.eye_distance, wanted.eye_line_y)


def crops_of(manifest: Manifest, size_px: int | None = None) -> Crops:
    """Return the crops that a run with this encoder makes. size_px: what is set, or None for what the encoder wants.

    Raises ConfigError: what is set is smaller than the encoder's input.
    """
    least = manifest.input.size_px
    if size_px is not None and size_px < least:
        raise ConfigError(
            f"aligner.size_px {size_px} is smaller than the input of encoder {manifest.model_id}, {least} px; "
            f"set {least} or more, or leave it away"
        )
    return Crops(template_of(manifest), size_px or max(manifest.alignment.crop_px, least))


def why_not(manifest: Manifest, crops: Crops) -> str:
    """Say in one line why an encoder cannot take such crops; "" where it can."""
    wanted = template_of(manifest)
    if not wanted.is_same(crops.template):
        return f"encoder {manifest.model_id} wants crops by {wanted}, and these are by {crops.template}"
    if manifest.input.size_px > crops.size_px:
        return f"encoder {manifest.model_id} takes {manifest.input.size_px} px, and the crops are {crops.size_px} px"
    return ""


def check_takes_ours(manifest: Manifest, where: str) -> None:
    """Raise ConfigError: an encoder cannot take crops as stores hold them, of 128 px by our own template.

    where: whose crops they are, in words.
    """
    if trouble := why_not(manifest, Crops()):
        raise ConfigError(f"{where}: {trouble}; run another --model")


def recorded_template(config: Mapping[str, Any]) -> Template:
    """Return the template of a session's crops. config: of its info.json; an older session's are by our own."""
    aligner = config.get("aligner")
    told = aligner.get("template") if isinstance(aligner, Mapping) else None
    if not isinstance(told, Mapping):
        return EYES_LEVEL
    distance, line = told.get("eye_distance"), told.get("eye_line_y")
    if not isinstance(distance, float | int) or not isinstance(line, float | int):
        return EYES_LEVEL
    return Template(str(told.get("name", "")), float(distance), float(line))
