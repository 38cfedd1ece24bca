"""Draws docs/pictures/at_work.png: ten seconds of the demo through the real aligner and encoder.

python docs/pictures/make.py
"""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from psm_stream.align import open_aligner
from psm_stream.bundle import general_bundle, open_bundle
from psm_stream.config import AlignerSettings, SourceSettings
from psm_stream.encoder import open_encoder
from psm_stream.sources import SOURCES, Picture
from psm_stream.sources.demo import parse_label
from psm_stream.values import Faces, Frame, Stamp

FRAMES, FPS = 300, 30
COLOURS = {"blink": "#4477aa", "brow_raise": "#228833", "smile": "#ee6677", "jaw_drop": "#aa3377"}


def main() -> None:
    """Run the demo and draw it."""
    source = SOURCES["demo"](SourceSettings(seed=2), lambda: 0.0)
    source.open()
    aligner, encoder = open_aligner(AlignerSettings()), open_encoder(open_bundle(general_bundle()))
    pictures, faces, vectors, truth = [], [], [], []
    for index in range(FRAMES):
        picture = source.read()
        assert isinstance(picture, Picture)
        sighting = aligner(Frame(Stamp(index, index / FPS), picture.image))
        assert isinstance(sighting, Faces)
        pictures.append(picture.image)
        faces.append(sighting.faces[0])
        vectors.append(encoder.encode(sighting.faces[0].crop))
        label = parse_label(picture.label)
        truth.append((label.name, label.intensity))
    draw(pictures, faces, np.array(vectors), truth, encoder.trained)


def draw(pictures: list, faces: list, vectors: np.ndarray, truth: list, trained: bool) -> None:
    """Frame with landmarks and crop, the strongest crop of each expression, truth and embedding over time."""
    plt.rcParams.update(
        {"font.size": 9, "font.family": "DejaVu Sans", "axes.spines.top": False, "axes.spines.right": False}
    )
    figure = plt.figure(figsize=(11, 6.2), dpi=110)
    grid = figure.add_gridspec(3, 6, height_ratios=(1.25, 0.45, 1.0), hspace=0.32, wspace=0.12)
    strongest = {name: max((v, n) for n, (kind, v) in enumerate(truth) if kind == name)[1] for name in COLOURS}
    shown = strongest["smile"]

    axis = figure.add_subplot(grid[0, :2])
    axis.imshow(pictures[shown])
    axis.scatter(*faces[shown].landmarks.T, s=0.5, c="#00e5ff", linewidths=0)
    back = np.linalg.inv(np.vstack([faces[shown].to_crop, (0, 0, 1)]))
    outline = np.array([(0, 0, 1), (127, 0, 1), (127, 127, 1), (0, 127, 1), (0, 0, 1)]) @ back.T
    axis.plot(outline[:, 0], outline[:, 1], c="w", lw=1.5)
    axis.set_title("frame, 478 landmarks, crop", loc="left")
    axis.axis("off")
    for column, (name, index) in enumerate(strongest.items(), start=2):
        axis = figure.add_subplot(grid[0, column])
        axis.imshow(faces[index].crop)
        axis.set_title(f"{name} {truth[index][1]:.2f}", loc="left", color=COLOURS[name])
        axis.axis("off")

    seconds = np.arange(FRAMES) / FPS
    axis = figure.add_subplot(grid[1, :])
    for name, colour in COLOURS.items():
        strength = [v if kind == name else 0.0 for kind, v in truth]
        axis.fill_between(seconds, strength, color=colour, alpha=0.8, lw=0, label=name)
    axis.set(xlim=(0, seconds[-1]), ylim=(0, 1.05), ylabel="truth", xticks=[])
    axis.legend(ncols=4, loc="upper right", frameon=False, fontsize=8, bbox_to_anchor=(1, 1.45))

    axis = figure.add_subplot(grid[2, :])
    change = vectors - np.median(vectors, axis=0)
    order = np.argsort(-change.std(axis=0))[:96]
    shades = change[:, order] / change[:, order].std(axis=0)
    axis.imshow(
        shades.T, aspect="auto", cmap="RdBu_r", vmin=-3, vmax=3, extent=(0, seconds[-1], 0, 96), interpolation="nearest"
    )
    label = "embedding" if trained else "embedding (untrained encoder)"
    axis.set(xlabel="time, s", ylabel="dimension", yticks=[])
    axis.set_title(
        f"{label}: 96 of 256 dimensions, difference from rest in standard deviations", loc="left", fontsize=9
    )
    figure.savefig(Path(__file__).with_name("at_work.png"), bbox_inches="tight")


if __name__ == "__main__":
    main()
