"""The report of an adaptation: parent and child side by side, as one page with its pictures in it, and as one picture.

It is written of what was accepted and of what was rejected, so that a person can see why.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from psm_adapt.adaptation import panels
from psm_adapt.adaptation.collecting import Blendshapes
from psm_adapt.adaptation.comparing import Check, Compared, checks_of, compare
from psm_adapt.adaptation.panels import AFTER, BEFORE, QUIET, Bar, Canvas
from psm_adapt.adaptation.recipes import Recipe
from psm_adapt.adaptation.work import Adaptation, Outcome
from psm_stream.errors import AdaptationError

PAGE = "report.html"
PICTURE = "report.png"
_DPI = 110
_WIDE = 15.0
"""Inches of the whole picture."""
_SHOWN_OF_REFUSED = 10
_HELD_OUT, _CHECKS = "Held-out faces", "What the gate asked"
_LOSS = "Loss: training, and held out to choose the epoch"

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 1100px; margin: 2em auto;
  padding: 0 1em; }
h1 { font-size: 1.5em; margin-bottom: 0; } h2 { font-size: 1.1em; margin: 2em 0 0.4em; }
p.verdict { font-size: 1.05em; border-left: 6px solid; padding: 0.3em 0.8em; background: #f6f6f6; }
p.accepted { border-color: #2f5d8a; } p.rejected { border-color: #a50026; }
table { border-collapse: collapse; } td, th { padding: 0.25em 0.9em 0.25em 0; border-bottom: 1px solid #ddd;
  text-align: left; vertical-align: top; font-weight: normal; } thead th { color: #666; }
td.figure, th.figure { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; height: auto; } pre { background: #f6f6f6; padding: 0.8em; overflow-x: auto; font-size: 13px; }
code { font-size: 0.95em; overflow-wrap: anywhere; } .unmet { color: #a50026; font-weight: bold; }
"""


@dataclass(frozen=True, slots=True)
class Story:
    """What the outcome does not know.

    inputs: where the faces came from, a line each. lineage: models, a line each, this one's parent first.
    seconds_before: of what came before the adaptation, by name. blendshapes: of each face of the outcome's snapshot.
    """

    inputs: Sequence[str]
    lineage: Sequence[str]
    seconds_before: Mapping[str, float]
    blendshapes: Blendshapes | None = None


@dataclass(frozen=True, slots=True)
class _Panel:
    """A picture of the report. size: inches."""

    title: str
    size: tuple[float, float]
    draw: Callable[[Canvas], None]


def write_report(folder: Path, outcome: Outcome, story: Story) -> tuple[Path, Path]:
    """Write report.html and report.png into a folder. Returns them. Raises AdaptationError: the disk refuses."""
    about = outcome.adaptation
    compared = compare(outcome, story.blendshapes)
    checks = checks_of(about.figures, Recipe.model_validate(about.recipe).gate)
    rows = _rows(outcome, compared, checks, story)
    page, picture = folder / PAGE, folder / PICTURE
    try:
        picture.write_bytes(_png(_whole(about, rows, story)))
        page.write_text(_page(about, compared, checks, rows, story), encoding="utf-8")
    except OSError as error:
        raise AdaptationError(f"cannot write {folder}: {error.strerror or error}") from None
    return page, picture


def headline(about: Adaptation) -> str:
    """Say whom it is of and what became of it."""
    whose = about.person or "a model of somebody"
    return f"{whose}: accepted as model {about.model_id}" if about.accepted else f"{whose}: rejected"


def probe_in_words(compared: Compared) -> str:
    """Say what the probe found, or why there is no figure; "" where nothing was probed."""
    probed = compared.probed
    if probed is None:
        return ""
    before, after = probed.means
    if math.isnan(before) or math.isnan(after):
        return f"no action unit is on in 2 to 98 % of the {probed.frames} held-out frames often enough to probe it"
    return f"mean F1 {before:.3f} before, {after:.3f} after, on {probed.frames} held-out frames"


def _rows(outcome: Outcome, compared: Compared | None, checks: Sequence[Check], story: Story) -> list[list[_Panel]]:
    """Return the pictures as they lie on the page, row by row."""
    about = outcome.adaptation
    spent = {**story.seconds_before, **about.seconds_by_phase}
    seconds = _Panel("Time", (5.0, 2.7), lambda c: panels.draw_bars(c, panels.seconds_bars(spent), "seconds"))
    if compared is None:
        some = np.linspace(0, len(outcome.snapshot) - 1, min(len(outcome.snapshot), _SHOWN_OF_REFUSED)).astype(int)
        faces = outcome.snapshot.crops[some].astype(np.float32) / 255
        return [[_Panel("Some of the faces", (_WIDE, 2.2), lambda c: panels.draw_faces(c, faces))], [seconds]]
    neutral = [Bar("inputs", compared.of_inputs, QUIET)]
    for name, colour in (("before", BEFORE), ("after", AFTER)):
        value = about.figures.get(f"neutral_distance_{name}")
        neutral += [Bar(name, value, colour)] if value is not None else []
    last = [
        _Panel("How far neutral faces are apart", (5.0, 2.7), lambda c: panels.draw_bars(c, neutral, "L2 distance")),
        seconds,
    ]
    probed = compared.probed
    if probed is not None and not math.isnan(probed.means[0]):
        what = f"Probe: F1 {probed.means[0]:.3f} to {probed.means[1]:.3f}"
        last.insert(0, _Panel(what, (5.0, 2.7), lambda c: panels.draw_probe(c, probed)))
    return [
        [
            _Panel(_HELD_OUT, (8.6, 5.4), lambda c: panels.draw_preview(c, compared.preview)),
            _Panel(_LOSS, (6.4, 5.4), lambda c: panels.draw_losses(c, about.losses, about.validation, about.epochs)),
        ],
        [
            _Panel("Codes", (8.6, 4.3), lambda c: panels.draw_codes(c, compared.codes)),
            _Panel(_CHECKS, (6.4, 4.3), lambda c: panels.draw_checks(c, checks)),
        ],
        last,
    ]


def _whole(about: Adaptation, rows: Sequence[Sequence[_Panel]], story: Story) -> Figure:
    """Put all pictures on one."""
    lines = textwrap.wrap(f"{about.reason}.", 165) + textwrap.wrap(_in_short(about, story), 165)
    top = 0.75 + 0.24 * len(lines)
    heights = [max(panel.size[1] for panel in row) for row in rows]
    figure = Figure(figsize=(_WIDE, top + sum(heights)))
    parts = figure.subfigures(len(rows) + 1, 1, height_ratios=[top, *heights], squeeze=False)[:, 0]
    colour = BEFORE if about.accepted else panels.REFUSED
    head = parts[0]
    head.text(0.02, 1 - 0.42 / top, headline(about), fontsize=17, fontweight="bold", color=colour, parse_math=False)
    head.text(0.02, 1 - 0.6 / top, "\n".join(lines), fontsize=10, va="top", linespacing=1.35, parse_math=False)
    for part, row in zip(parts[1:], rows, strict=True):
        places = part.subfigures(1, len(row), width_ratios=[panel.size[0] for panel in row], squeeze=False)[0]
        for place, panel in zip(places, row, strict=True):
            _fill(place, panel)
    return figure


def _fill(canvas: Canvas, panel: _Panel) -> None:
    panels.title(canvas, panel.title)
    panel.draw(canvas)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, facecolor="white")
    return buffer.getvalue()


def _in_short(about: Adaptation, story: Story) -> str:
    line = " from ".join(story.lineage) or about.parent
    kept = f"epoch {about.epochs} of {about.epochs_done} kept" if about.epochs_done else "nothing was learned"
    return (
        f"{about.frames} faces, {about.held_out} of them held out; recipe {about.recipe_name}, {kept}, "
        f"seed {about.seed}, {about.device}; made from {line}"
    )


def _page(
    about: Adaptation,
    compared: Compared | None,
    checks: Sequence[Check],
    rows: Sequence[Sequence[_Panel]],
    story: Story,
) -> str:
    verdict = "accepted" if about.accepted else "rejected"
    body = [
        f"<h1>{_safe(headline(about))}</h1>",
        f"<p>{_safe(_in_short(about, story))}</p>",
        f'<p class="verdict {verdict}">{_safe(about.reason)}</p>',
    ]
    for panel in (panel for row in rows for panel in row):
        if panel.title != _CHECKS:
            body += [f"<h2>{_safe(panel.title)}</h2>", _image(panel), *_words(panel, compared)]
        else:
            body += [f"<h2>{_safe(panel.title)}</h2>", _check_table(checks)]
    body += [
        "<h2>Faces</h2>",
        _list(story.inputs),
        "<h2>Lineage</h2>",
        _list([f"{about.model_id or 'no model'} (this one)", *story.lineage]),
        "<h2>All figures</h2>",
        _figure_table(about.figures),
        "<h2>Run</h2>",
        _pairs(_run(about)),
        f"<h2>Recipe {_safe(about.recipe_name)}</h2>",
        f"<pre>{_safe(json.dumps(about.recipe, indent=1))}</pre>",
    ]
    head = f'<meta charset="utf-8"><title>{_safe(headline(about))}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(body) + "\n</body></html>\n"


def _words(panel: _Panel, compared: Compared | None) -> list[str]:
    if compared is None or panel.title != _HELD_OUT:
        return []
    words = (
        "None of these faces was learned from. Reconstruction: the face, drawn from another one's neutral face and its "
        "own code; error: mean absolute difference to the input."
    )
    probe = probe_in_words(compared)
    return [f"<p>{_safe(words)}</p>", *([f"<p>{_safe(f'Probe: {probe}.')}</p>"] if probe else [])]


def _image(panel: _Panel) -> str:
    figure = Figure(figsize=panel.size)
    panel.draw(figure)
    coded = base64.b64encode(_png(figure)).decode()
    return f'<img alt="{_safe(panel.title)}" src="data:image/png;base64,{coded}">'


def _check_table(checks: Sequence[Check]) -> str:
    lines = []
    for check in checks:
        met = "<td>met</td>" if check.is_met else '<td class="unmet">not met</td>'
        before = "" if check.before is None else f"{check.before:.4g}"
        lines.append(f"<tr><td>{_safe(check.what)}</td>{_cells(before, f'{check.after:.4g}', check.asked)}{met}</tr>")
    heads = '<th></th><th class="figure">before</th><th class="figure">after</th><th class="figure">asked for</th>'
    return f"<table><thead><tr>{heads}<th></th></tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _figure_table(figures: Mapping[str, float | None]) -> str:
    lines = (
        f"<tr><td>{_safe(name.replace('_', ' '))}</td>{_cells('none' if value is None else f'{value:.5g}')}</tr>"
        for name, value in figures.items()
    )
    return f"<table><tbody>{''.join(lines)}</tbody></table>"


def _run(about: Adaptation) -> dict[str, str]:
    versions = ", ".join(f"{name} {version}" for name, version in about.versions.items())
    return {
        "person": about.person or "nobody named",
        "model": about.model_id or "none",
        "checkpoint": about.checkpoint_id or "none",
        "parent": about.parent,
        "parent's checkpoint": about.parent_checkpoint,
        "seed": str(about.seed),
        "device": about.device,
        "seconds": f"{about.seconds:.1f}",
        "snapshot": about.snapshot_sha256,
        "versions": versions,
    }


def _pairs(pairs: Mapping[str, str]) -> str:
    rows = (f"<tr><th>{_safe(name)}</th><td><code>{_safe(value)}</code></td></tr>" for name, value in pairs.items())
    return f"<table><tbody>{''.join(rows)}</tbody></table>"


def _list(lines: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{_safe(line)}</li>' for line in lines)}</ul>"


def _cells(*texts: str) -> str:
    return "".join(f'<td class="figure">{_safe(text)}</td>' for text in texts)


def _safe(text: str) -> str:
    return html.escape(text, quote=True)
