"""How a benchmark's head gets short, and what teaches it classes: the options of `nm`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from pml_nmlayer.classes.read_out import STRENGTH
from pml_nmlayer.heads.longer_codes import Longer

from ..interface import Problem
from .scorers import STATIC

# Where chains begin. On validation splits of other seeds SupCon gained nothing from 96 bits
# and DPSH lost: θ grows with the length, and with it what a step does to θ.
LONGEST = 48


@dataclass(frozen=True, kw_only=True)
class Merging:
    """Options of a method with merges.

    Args:
        scorer: by name; "static" merges neighbours, all the way before the first step. None
            for the default of `ProgressiveHead`.
        weighting: of the scorer; None for its own default.
        learn_weights: whether weights inside groups are trained on after the merge.
        longest: see `chain`.
        merges: None for one at every halving, 1 for a single one at the end of the chain.
        classes: whether the head is told how many classes there are, and `NMLoss` teaches
            them; else neither codewords nor a classifier add anything.
        spare_codewords: see `ProgressiveHead`.
        codeword_weight: of `NMLoss`; None for its default. As of what follows, not
            without classes.
        label_weight: of `NMLoss`; None for its default.
        readout: what the classifier adds to codes, see `ProgressiveHead`; 0 for none.
        max_group: see `ProgressiveHead`.
        active: share of the epochs up to the last merge.
        longer: what becomes of longer codes, see `ProgressiveHead`; what is kept is
            encoded with at the end, see `HashLearner`.
        trace: see `HashLearner`.
        stage_lr: every merge multiplies all learning rates by it.

    Raises:
        ValueError: options that do not go together.
    """

    scorer: str | None = None
    weighting: str | None = None
    learn_weights: bool = False
    longest: int = LONGEST
    merges: int | None = None
    classes: bool = False
    spare_codewords: int = 0
    codeword_weight: float | None = None
    label_weight: float | None = None
    readout: float = STRENGTH
    max_group: int | None = None
    active: float = 0.3
    longer: Longer = "drop"
    trace: bool = False
    stage_lr: float = 1.0

    def __post_init__(self) -> None:
        if self.is_static and (
            self.max_group is not None
            or self.trace
            or self.classes
            or self.stage_lr != 1
            or self.learn_weights
        ):
            raise ValueError(
                "scorer static has groups of its own from the start, no merge to trace and "
                f"no code to find codewords in: leave max_group={self.max_group}, "
                f"trace={self.trace}, classes={self.classes}, stage_lr={self.stage_lr} and "
                f"learn_weights={self.learn_weights} out"
            )
        taught = (self.codeword_weight, self.label_weight, self.readout)
        if not self.classes and taught != (None, None, STRENGTH):
            raise ValueError(
                "without classes nothing is taught: leave codeword_weight="
                f"{self.codeword_weight}, label_weight={self.label_weight} and "
                f"readout={self.readout} out"
            )
        if not self.stage_lr > 0:
            raise ValueError(f"stage_lr must be > 0, got {self.stage_lr}")
        if self.merges not in (None, 1):
            raise ValueError(f"merges must be None (every halving) or 1, got {self.merges}")

    @classmethod
    def taken_from(cls, settings: Mapping[str, Any]) -> tuple["Merging", dict[str, Any]]:
        """Split the settings of a method into these options and those of its loss."""
        names = {each.name for each in fields(cls)}
        own = {name: value for name, value in settings.items() if name in names}
        rest = {name: value for name, value in settings.items() if name not in names}
        return cls(**own), rest

    @property
    def is_static(self) -> bool:
        return self.scorer == STATIC

    @property
    def finds_codewords(self) -> bool:
        """Whether a merge looks for codewords, taught or not."""
        return self.classes or self.scorer == "codewords"

    def lengths(self, bits: int) -> tuple[int, ...]:
        """List the lengths of the code down to `bits`."""
        whole = chain(bits, self.longest)
        return whole if self.merges is None else (whole[0], whole[-1])


# Of methods in suites; a learning rate for each stage is a method of its own.
DEFAULTS = {name: value for name, value in asdict(Merging()).items() if name != "stage_lr"}


def chain(bits: int, longest: int) -> tuple[int, ...]:
    """Double the length as often as it stays within `longest`, and at least once."""
    doublings = max((longest // bits).bit_length() - 1, 1)
    return tuple(bits * 2**i for i in range(doublings, -1, -1))


def merge_epochs(problem: Problem, merges: int, active: float) -> list[int]:
    """Spread merges evenly over a share of the epochs, each after an epoch of its own."""
    times: list[int] = []
    for m in range(1, merges + 1):
        after = round(active * problem.epochs * m / merges)
        times.append(max(after, times[-1] + 1 if times else 1))
    if times and times[-1] > problem.epochs:
        raise ValueError(f"{problem.epochs} epochs are too few for {merges} merges")
    return times
