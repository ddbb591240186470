"""Queries and what a code found for them, as one picture of images."""

import io
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from pml_nmlayer.hamming import hamming_distance
from pml_nmlayer.plots import neighbour_gallery

from ..datasets import ImageFiles, load_split
from ..interface import ENCODINGS
from ..methods import METHODS
from ..results import Spec, Store, write_file
from ..training.decoded import read_image

QUERIES, NEIGHBOURS = 5, 7
_SIDE, _DPI, _SHADES = 32, 64, 64


def draw(
    spec: Spec, store: Store, root: Path | None = None, queries: int = QUERIES
) -> Figure:
    """Draw queries and the items whose codes are nearest to theirs.

    Queries are spread evenly over all of them, sorted by class: none is picked. Items at
    one distance come in an order of chance, the same every time: that of the database is
    by class.

    Args:
        spec: of a run whose codes are stored, on images.
        store: where results lie.
        root: the data folder.
        queries: how many.

    Raises:
        ValueError: no result, no Hamming code, or no images.
    """
    split = load_split(
        spec["dataset"], spec["seed"], spec["purpose"], root, spec.get("most_items")
    )
    files = split.features
    if not isinstance(files, ImageFiles):
        raise ValueError(f"{spec['dataset']} holds vectors; a gallery needs images")
    if not store.has_codes(spec):
        raise ValueError(f"{store.path(spec)} has no codes; `run` this method first")
    kinds = METHODS[spec["method"]].encodings
    code = next((name for name in kinds if ENCODINGS[name].kind == "hamming"), None)
    if code is None:
        raise ValueError(f"{spec['method']} has no Hamming code; choose another method")
    names = (f"query_{code}", f"database_{code}", "query_labels", "database_labels")
    arrays = store.load_arrays(spec, names)
    asking, stored, q_labels, labels = (arrays[name] for name in names)
    order = np.argsort(q_labels, kind="stable")
    chosen = order[(2 * np.arange(queries) + 1) * len(order) // (2 * queries)]
    near, far = torch.from_numpy(asking[chosen]), torch.from_numpy(stored)
    distances = hamming_distance(near, far, bits=spec["bits"])
    mixed = np.random.default_rng(spec["seed"]).permutation(len(stored))
    nearest = distances[:, mixed].argsort(dim=1, stable=True)[:, :NEIGHBOURS]
    rows = mixed[nearest.numpy()]
    shown = np.unique(rows)
    figure = Figure(figsize=(0.85 * (NEIGHBOURS + 1), 1.05 * queries), layout="constrained")
    neighbour_gallery(
        _images(files, split.queries[chosen].tolist()),
        asking[chosen],
        _images(files, split.database[shown].tolist()),
        stored[shown],
        np.searchsorted(shown, rows),
        bits=spec["bits"],
        same=labels[rows] == q_labels[chosen][:, None],
        ax=figure.subplots(),
    )
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a picture of few colours: a small file."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=_DPI, format="png")
    image = Image.open(drawn).convert("RGB").quantize(_SHADES, Image.Quantize.MEDIANCUT)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, lambda f: image.save(f, format="png", optimize=True))


def _images(files: ImageFiles, places: list[int]) -> np.ndarray:
    return np.stack(
        [read_image(files, files.names[place], _SIDE, _SIDE) for place in places]
    )
