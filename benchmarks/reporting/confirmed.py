"""Whether images confirm what frozen features showed: one table, from two summaries."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from scipy.stats import t

from ..interface import ENCODINGS
from ..methods import METHODS
from ..methods.own_losses import OWN
from ..methods.pml_losses import PML
from .contenders import mean_and_sd
from .summary import Summary
from .tables import markdown

METRIC = "map"
OURS = {"nm": "NMLayer", "adapted": "what learns from the database"}
RIVALS = {
    "direct": "the same losses alone",
    "class": "a predicted class",
    "post": "ITQ of an embedding",
}
RULE = (
    "A gain is the difference of mAP@all between two rows, code against code, paired by "
    "seed: mean ± standard deviation. Each side is its best row by mean, found on the "
    "queries that judge it; of losses those count that both suites have. Beyond noise is "
    "a gain whose 95 % interval by Student's t leaves zero out; one seed never is."
)


@dataclass(frozen=True)
class Task:
    """Two data sets that ask the same thing.

    Args:
        about: the task, in words.
        features: suite and data set of frozen features.
        images: data set of the images suite.
    """

    about: str
    features: tuple[str, str]
    images: str


TASKS = (
    Task("seen classes", ("features", "cifar10-features"), "images:cifar10:C-B"),
    Task(
        "unseen classes", ("unseen", "cifar100-features:unseen"), "images:cifar100:unseen"
    ),
)


def text(features: dict[str, Summary], images: Summary, bits: int) -> str:
    """Write the table and its rule.

    Args:
        features: summaries of suites on frozen features, by their names.
        images: that of the images suite.
        bits: the length that is compared.
    """
    header = ["gain of", "over", "task", "frozen features", "images", "confirmed"]
    rows = []
    for task in TASKS:
        suite, dataset = task.features
        parts = (features[suite]["datasets"][dataset], images["datasets"][task.images])
        both = set.intersection(*(_losses(part) for part in parts))
        for ours, name in OURS.items():
            for rival, other in RIVALS.items():
                gains = [_gain(part, ours, rival, both, bits) for part in parts]
                cells = [mean_and_sd(g, "+") if g else "–" for g in gains]
                rows.append([name, other, task.about, *cells, verdict(*gains)])
    commands = [features[task.features[0]]["command"] for task in TASKS]
    listed = "\n".join(f"- `{c}`" for c in dict.fromkeys([*commands, images["command"]]))
    sizes = [_made(images["datasets"][task.images]) for task in TASKS]
    return (
        f"# Do images confirm what frozen features showed? At {bits} bits\n\n"
        f"{markdown(header, rows)}\n\n{RULE}\n\n"
        "Trunks train from scratch: there are no pretrained weights.\n"
        f"{' '.join(dict.fromkeys(sizes))}\n\nFrom the summaries of:\n\n{listed}\n"
    )


def _made(part: dict[str, Any]) -> str:
    """Say what was trained, and on how much."""
    recipe = part["recipe"]
    most = recipe.get("most_items")
    some = "all images" if most is None else f"at most {most:,} images"
    return f"Trunk {recipe['trunk']}, {recipe['epochs']} epochs, {some} of a set."


def verdict(features: Sequence[float], images: Sequence[float]) -> str:
    """Compare the signs of two gains, as far as either is beyond noise."""
    if not features or not images:
        return "not compared"
    before, now = _sign(features), _sign(images)
    if now == 0:
        same = fmean(features) * fmean(images) > 0
        why = "one seed" if len(images) == 1 else "within noise"
        return f"open: {why}, {'the same' if same else 'another'} sign"
    if before == 0:
        return "open: features were within noise"
    return "yes" if before == now else "no"


def _sign(gains: Sequence[float]) -> int:
    """Return +1 or -1 for a gain beyond noise, else 0."""
    if len(gains) < 2:
        return 0
    mean, error = fmean(gains), stdev(gains) / len(gains) ** 0.5
    most = float(t.ppf(0.975, len(gains) - 1))
    return 0 if abs(mean) <= most * error else 1 if mean > 0 else -1


def _gain(
    part: dict[str, Any], ours: str, rival: str, losses: set[str], bits: int
) -> list[float]:
    """Subtract the best rows of two families, seed by seed; empty where one is missing."""
    one, other = (_best(part, family, losses, bits) for family in (ours, rival))
    return [one[seed] - other[seed] for seed in one if seed in other]


def _best(
    part: dict[str, Any], family: str, losses: set[str], bits: int
) -> dict[str, float]:
    found = [
        cell
        for row in part["rows"].values()
        if _counts(row, family, losses)
        and (cell := row["values"].get(METRIC, {}).get(str(bits)))
        and None not in cell.values()
    ]
    return max(found, key=lambda cell: fmean(cell.values()), default={})


def _counts(row: dict[str, Any], family: str, losses: set[str]) -> bool:
    if row["family"] != family or ENCODINGS[row["encoding"]].kind != "hamming":
        return False
    if family == "post" and row["encoding"] != "itq":
        return False
    loss = _loss(row)
    return loss is None or loss in losses


def _losses(part: dict[str, Any]) -> set[str]:
    return {loss for row in part["rows"].values() if (loss := _loss(row)) is not None}


def _loss(row: dict[str, Any]) -> str | None:
    """Name the loss of a row: its method's, or that of the embedding it stands behind."""
    own = METHODS[row["method"]].loss
    if own is not None:
        return own
    first = row["entry"].rpartition("_")[0]
    return first if first in OWN or first in PML else None
