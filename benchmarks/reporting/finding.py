"""What a comparison found, and how it is told."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .tables import markdown

FAILING = ("missing", "not comparable", "worse")
ORDER = (*FAILING, "within noise", "better", "new", "same")
_SHOWN = 20  # lines of what is no failure


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    `loss` says how much worse it is, for the order; `before` and `now` are means or ratios.
    """

    verdict: str
    where: str
    what: str
    before: float | None = None
    now: float | None = None
    loss: float = 0.0
    why: str = ""

    @property
    def failing(self) -> bool:
        return self.verdict in FAILING


def changes_of(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Name what differs, "" for nothing."""
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return ", ".join(f"{key}: {before.get(key)} -> {now.get(key)}" for key in keys)


def findings_text(found: Sequence[Finding], notes: Sequence[str] = ()) -> str:
    """Lay out what is not the same, worst first; the verdict is the last line."""
    failing = [each for each in found if each.failing]
    others = [each for each in found if not each.failing and each.verdict != "same"]
    shown = [*failing, *others[:_SHOWN]]
    parts = []
    if shown:
        header = ["verdict", "data set", "what", "baseline", "now", "why"]
        parts.append(markdown(header, [_line(each) for each in shown]))
    if len(others) > _SHOWN:
        parts.append(f"and {len(others) - _SHOWN} more that are no failure")
    parts += [f"note: {note}" for note in notes]
    counts = [(name, sum(e.verdict == name for e in found)) for name in ORDER]
    text = ", ".join(f"{count} {name}" for name, count in counts if count)
    parts.append(f"{'REGRESSION' if failing else 'all well'}: {text}")
    return "\n\n".join(parts)


def _line(each: Finding) -> list[str]:
    numbers = ["–" if v is None else f"{v:.4f}" for v in (each.before, each.now)]
    return [each.verdict, each.where, each.what, *numbers, each.why]
