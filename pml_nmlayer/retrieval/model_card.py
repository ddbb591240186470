"""A model card beside a saved head: what it is, and what its user said of it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pml_nmlayer

from ..runtime.atomic import atomic_write

FIELDS = {
    "data": "Data",
    "protocol": "Protocol",
    "metric": "Metric and tie rule",
    "not_for": "What it is not for",
}
_UNKNOWN = "Not stated by whoever saved it."
_NOT_FOR = (
    "Distances of codes rank items. They are no probabilities, and no distances in the "
    "unit of the embedding."
)


def write_card(
    folder: Path, *, bits: int | None, kind: str, card: Mapping[str, Any] | None = None
) -> None:
    """Write README.md, in the form that model hubs read.

    Nothing is invented: what is not given is said to be unknown. A README.md that is there
    is replaced.

    Args:
        folder: of the saved head; made if it is missing.
        bits: code length; None if the head does not tell.
        kind: name of the class that saves.
        card: any of "data", "protocol", "metric", "not_for" (text) and "figures" (metric
            name -> number); None for none.

    Raises:
        ValueError: an unknown field, a figure without a metric or protocol, or a figure
            that is not finite.
        TypeError: a field that is no text, or figures that are no numbers.
        OSError: it cannot be written.
    """
    text = card_text(bits=bits, kind=kind, card=card)
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / "README.md", text.encode())


def card_text(*, bits: int | None, kind: str, card: Mapping[str, Any] | None = None) -> str:
    """Compose the card; the arguments are those of `write_card`.

    Args:
        bits: code length.
        kind: name of the class.
        card: what is known.

    Returns:
        Markdown.

    Raises:
        ValueError: as `write_card`.
        TypeError: as `write_card`.

    Example:
        >>> card = {"data": "CIFAR-10", "metric": "mAP@all, ties: expected",
        ...         "protocol": "1,000 queries", "figures": {"mAP@all": 0.6}}
        >>> "| mAP@all | 0.6 |" in card_text(bits=12, kind="Hasher", card=card)
        True
    """
    given = dict(card or {})
    figures = _figures(given)
    length = "unknown" if bits is None else str(bits)
    lines = [
        "---",
        "library_name: pml-nmlayer",
        "tags: [hashing, image-retrieval, binary-codes]",
        "---",
        "",
        f"# Binary codes of {length} bits",
        "",
        f"Saved by `{kind}` of pml-nmlayer {pml_nmlayer.__version__}.",
        "",
        f"- **Bits:** {length}, packed as `numpy.packbits` does; an output of 0 is bit 1.",
        "- **Search:** Hamming distance, or real query outputs against stored bits.",
    ]
    for name, title in FIELDS.items():
        default = _NOT_FOR if name == "not_for" else _UNKNOWN
        text = given.get(name)
        body = default if text is None else text
        if name == "not_for" and text is not None:
            body = f"{text}\n\n{_NOT_FOR}"
        lines += ["", f"## {title}", "", body]
    if figures:
        lines += ["", "## Figures", "", "| metric | value |", "|---|---|"]
        lines += [f"| {name} | {value} |" for name, value in figures.items()]
        lines += ["", "As given by whoever saved it; see data, protocol and metric above."]
    return "\n".join(lines) + "\n"


def _figures(given: dict[str, Any]) -> dict[str, float]:
    """Check the fields, and take the figures out of them."""
    unknown = given.keys() - FIELDS.keys() - {"figures"}
    if unknown:
        raise ValueError(
            f"a card has the fields {', '.join([*FIELDS, 'figures'])}; got "
            f"{', '.join(sorted(map(str, unknown)))}"
        )
    figures = given.pop("figures", {})
    for name, text in given.items():
        if not isinstance(text, str):
            raise TypeError(f"card[{name!r}] must be text, got {type(text).__name__}")
    if not isinstance(figures, Mapping):
        raise TypeError(
            f"card['figures'] must map metrics to numbers, got {type(figures).__name__}"
        )
    lacking = [name for name in ("data", "protocol", "metric") if name not in given]
    if figures and lacking:
        raise ValueError(
            f"figures mean nothing without {', '.join(lacking)}: say on what data, by "
            "which protocol, and with which metric and tie rule they were measured"
        )
    for name, value in figures.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(
                f"figure {name!r} must be a number, got {type(value).__name__}; convert it "
                "by float(...)"
            )
        if not math.isfinite(value):
            raise ValueError(f"figure {name!r} is {value}: leave it out")
    return dict(figures)
