"""Hashing heads of this package: direct to K bits, or merged down from a longer code."""

from functools import partial
from typing import Any

import torch
from torch import nn

from pml_nmlayer.heads.progressive_head import READOUT, Activation, Longer, MergeAt
from pml_nmlayer.hooks import FixedTimes, ProgressiveMerging
from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.losses import NMLoss
from pml_nmlayer.merging.nm_layer import MemberGradient

from ..interface import Method, Problem, add_method
from .hash_learner import HashLearner
from .loss_table import Loss, parts
from .own_losses import OWN
from .pml_losses import PML
from .scorers import STATIC, scorer_of

# Where chains begin. On validation splits of other seeds SupCon gained nothing from 96 bits
# and DPSH lost: θ grows with the length, and with it what a step does to θ.
LONGEST = 48
# Options of all methods with merges; see `merged`.
MERGING: dict[str, Any] = {
    "scorer": None,
    "weighting": None,
    "learn_weights": False,
    "longest": LONGEST,
    "merges": None,
    "classes": False,
    "spare_codewords": 0,
    "codeword_weight": None,
    "label_weight": None,
    "readout": READOUT,
    "max_group": None,
    "merge": "linear",
    "gradient": "weighted",
    "active": 0.3,
    "longer": "drop",
    "trace": False,
}


def direct(loss: Loss, problem: Problem, tanh: bool, **options: Any) -> Method:
    """Train a head that has its final width from the start.

    Args:
        loss: of the table.
        problem: with the wanted width.
        tanh: whether the head ends in tanh.
        options: of the loss.
    """
    own = parts(loss, problem, problem.bits, options)
    activation: Activation = "tanh" if tanh else None
    head = ProgressiveHead(problem.width, bits=(problem.bits,), activation=activation)
    return HashLearner(problem, head, **own)


def merged(
    loss: Loss,
    problem: Problem,
    tanh: bool,
    scorer: str | None,
    weighting: str | None,
    learn_weights: bool,
    longest: int,
    merges: int | None,
    classes: bool,
    spare_codewords: int,
    codeword_weight: float | None,
    label_weight: float | None,
    readout: float,
    max_group: int | None,
    merge: MergeAt,
    gradient: MemberGradient,
    active: float,
    longer: Longer,
    trace: bool,
    stage_lr: float = 1.0,
    **options: Any,
) -> Method:
    """Train a head that is halved until it has the wanted width.

    Args:
        loss: the base loss.
        problem: with the wanted width K.
        tanh: whether the head ends in tanh.
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
        max_group: see `ProgressiveHead`, as of `merge` and `gradient`.
        merge: before or after the activation.
        gradient: of the members of a group.
        active: share of the epochs up to the last merge.
        longer: what becomes of longer codes, see `ProgressiveHead`; what is kept is
            encoded with at the end, see `HashLearner`.
        trace: see `HashLearner`.
        stage_lr: every merge multiplies all learning rates by it.
        options: of the loss.
    """
    if scorer == STATIC and (
        max_group is not None or trace or classes or stage_lr != 1 or learn_weights
    ):
        raise ValueError(
            "scorer static has groups of its own from the start, no merge to trace and no "
            f"code to find codewords in: leave max_group={max_group}, trace={trace}, "
            f"classes={classes}, stage_lr={stage_lr} and learn_weights={learn_weights} out"
        )
    if not classes and (codeword_weight, label_weight, readout) != (None, None, READOUT):
        raise ValueError(
            "without classes nothing is taught: leave codeword_weight="
            f"{codeword_weight}, label_weight={label_weight} and readout={readout} out"
        )
    if learn_weights and gradient == "full":
        raise ValueError(
            "gradient full passes weights by: with learn_weights=True use gradient weighted"
        )
    if not stage_lr > 0:
        raise ValueError(f"stage_lr must be > 0, got {stage_lr}")
    if merges not in (None, 1):
        raise ValueError(f"merges must be None (every halving) or 1, got {merges}")
    has_centres = loss.centres and classes  # of short codes, too
    bits = chain(problem.bits, longest)
    bits = bits if merges is None else (bits[0], bits[-1])
    finds_codewords = classes or scorer == "codewords"
    head = ProgressiveHead(
        problem.width,
        bits=bits,
        activation="tanh" if tanh else None,
        scorer=scorer_of(scorer, weighting),
        merge=merge,
        max_group=max_group,
        gradient=gradient,
        longer=longer,
        lift=loss.per_class and not loss.any_width and not has_centres,
        num_classes=problem.num_classes if finds_codewords else None,
        readout=(readout if classes else 0.0) if finds_codewords else None,
        spare_codewords=spare_codewords,
    )
    more = {"head": head} if has_centres else {}
    own = parts(loss, problem, bits[0], options, **more)
    weights = (codeword_weight, None, label_weight) if classes else (0.0, None, 0.0)
    own["loss"] = NMLoss(own["loss"], head, *weights)
    if scorer == STATIC:
        merge_at_once(head)
        return HashLearner(problem, head, **own)
    learner = HashLearner(problem, head, trace=trace, learn_weights=learn_weights, **own)
    schedule = FixedTimes(merge_epochs(problem, len(bits) - 1, active))
    merging = ProgressiveMerging(head, schedule=schedule, on_change=learner.keep)
    learner.after_epoch = merging.step
    learner.lr_factor = lambda: stage_lr**head.stage
    return learner


def merge_at_once(head: ProgressiveHead) -> None:
    """Merge to the end. A layer does not merge unless it has seen something: one item."""
    while not head.finished:
        head.observe(torch.ones(1, head.all_bits[0] if head.lift else head.bits))
        head.merge_next()


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


def wide(loss: Loss, problem: Problem, longest: int, **options: Any) -> Method:
    """Control: a head of two layers with as many numbers as `merged` has at its longest.

    Args:
        loss: of the table.
        problem: with the wanted width.
        longest: of the chain to compare with.
        options: of the loss.
    """
    own = parts(loss, problem, problem.bits, options)
    numbers = chain(problem.bits, longest)[0] * (problem.width + 1)
    hidden = (numbers - problem.bits) // (problem.width + 1 + problem.bits)
    head = nn.Sequential(
        nn.Linear(problem.width, hidden),
        nn.ReLU(),
        nn.Linear(hidden, problem.bits),
        nn.Tanh(),
    )
    return HashLearner(problem, head, **own)


def _register() -> None:
    supcon = PML["supcon"]
    add_method(
        "supcon_tanh",
        "SupCon direct (tanh head)",
        partial(direct, supcon, tanh=True),
        supcon.defaults,
        supcon.space,
    )
    add_method(
        "supcon_wide",
        "SupCon, two layers",
        partial(wide, supcon),
        {**supcon.defaults, "longest": LONGEST},
        supcon.space,
    )
    add_method(
        "supcon_nm_stage_lr",
        "SupCon + NMLayer, a learning rate for each stage",
        partial(merged, supcon, tanh=True),
        {**supcon.defaults, **MERGING, "stage_lr": 1.0},
        supcon.space,
    )
    for name, loss in OWN.items():
        factory = partial(direct, loss, tanh=loss.tanh)
        add_method(name, f"{loss.label} direct", factory, loss.defaults, loss.space)
    for name, loss in {**OWN, **PML}.items():
        factory = partial(merged, loss, tanh=loss.tanh)
        defaults = {**loss.defaults, **MERGING}
        add_method(f"{name}_nm", f"{loss.label} + NMLayer", factory, defaults, loss.space)


_register()
