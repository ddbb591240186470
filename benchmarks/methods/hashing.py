"""Hashing heads of this package: direct to K bits, or merged down from a longer code."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from pml_nmlayer.heads.progressive_head import Activation
from pml_nmlayer.hooks import FixedTimes, ProgressiveMerging
from pml_nmlayer.layers import ProgressiveHead

from ..interface import Method, Problem, add_method
from ..training.heads import has_constant_width, make_head, make_nm_loss
from ..training.learner import starting
from .hash_learner import HashLearner
from .loss_table import START, START_SPACE, Loss, parts
from .merging import DEFAULTS, LONGEST, Merging, chain, merge_epochs
from .own_losses import OWN
from .pml_losses import PML
from .scorers import scorer_of


def direct(loss: Loss, problem: Problem, *, tanh: bool, **options: Any) -> Method:
    """Train a head that has its final width from the start.

    Args:
        loss: of the table.
        problem: with the wanted width.
        tanh: whether the head ends in tanh.
        options: of the loss.
    """
    problem = starting(problem, options["start"])
    own = parts(loss, problem, problem.bits, options)
    head = make_head(problem.width, (problem.bits,), activation=_activation(tanh))
    return HashLearner(problem, head, **own)


def _activation(tanh: bool) -> Activation:
    return "tanh" if tanh else None


def merged(
    loss: Loss,
    problem: Problem,
    merging: Merging,
    *,
    tanh: bool,
    options: Mapping[str, Any],
) -> Method:
    """Train a head that is halved until it has the wanted width.

    Args:
        loss: the base loss.
        problem: with the wanted width K.
        merging: how.
        tanh: whether the head ends in tanh.
        options: of the loss.
    """
    problem = starting(problem, options.get("start", "hidden"))
    has_centres = loss.centres and merging.classes  # of short codes, too
    bits = merging.lengths(problem.bits)
    head = make_head(
        problem.width,
        bits,
        constant_width=loss.per_class and not loss.any_width and not has_centres,
        activation=_activation(tanh),
        scorer=scorer_of(merging.scorer, merging.weighting),
        max_group=merging.max_group,
        longer=merging.longer,
        spare_codewords=merging.spare_codewords,
        **_codewords(merging, problem),
    )
    more = {"head": head} if has_centres else {}
    own = parts(loss, problem, bits[0], options, **more)
    own["loss"] = make_nm_loss(own["loss"], head, **_weights(merging))
    if merging.is_static:
        merge_at_once(head)
        return HashLearner(problem, head, **own)
    learner = HashLearner(
        problem, head, trace=merging.trace, learn_weights=merging.learn_weights, **own
    )
    schedule = FixedTimes(merge_epochs(problem, len(bits) - 1, merging.active))
    hook = ProgressiveMerging(head, schedule=schedule, on_change=learner.keep)
    learner.after_epoch = hook.step
    learner.lr_factor = lambda: merging.stage_lr**head.stage
    return learner


def _codewords(merging: Merging, problem: Problem) -> dict[str, Any]:
    if not merging.finds_codewords:
        return {}
    readout = merging.readout if merging.classes else 0.0
    return {"num_classes": problem.num_classes, "readout": readout}


def _weights(merging: Merging) -> dict[str, float | None]:
    if not merging.classes:
        return {"codeword_weight": 0.0, "label_weight": 0.0}
    weights = merging.codeword_weight, merging.label_weight
    return dict(zip(("codeword_weight", "label_weight"), weights, strict=True))


def merged_by_settings(
    loss: Loss, problem: Problem, *, tanh: bool, **settings: Any
) -> Method:
    """Do as `merged`, with the options of merging and of the loss in one.

    Args:
        loss: the base loss.
        problem: with the wanted width.
        tanh: whether the head ends in tanh.
        settings: fields of `Merging`, and options of the loss.
    """
    merging, options = Merging.taken_from(settings)
    return merged(loss, problem, merging, tanh=tanh, options=options)


def merge_at_once(head: ProgressiveHead) -> None:
    """Merge to the end. A layer does not merge unless it has seen something: one item."""
    while not head.finished:
        width = head.all_bits[0] if has_constant_width(head) else head.bits
        head.observe(torch.ones(1, width))
        head.merge_next()


def wide(loss: Loss, problem: Problem, *, longest: int, **options: Any) -> Method:
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
        defaults={**supcon.defaults, **START},
        space={**supcon.space, **START_SPACE},
        family="direct",
        loss="supcon",
    )
    add_method(
        "supcon_wide",
        "SupCon, two layers",
        partial(wide, supcon),
        defaults={**supcon.defaults, "longest": LONGEST},
        space=supcon.space,
        family="control",
        loss="supcon",
    )
    add_method(
        "supcon_nm_stage_lr",
        "SupCon + NMLayer, a learning rate for each stage",
        partial(merged_by_settings, supcon, tanh=True),
        defaults={**supcon.defaults, **DEFAULTS, "stage_lr": 1.0},
        space=supcon.space,
        family="control",
        loss="supcon",
    )
    for name, loss in OWN.items():
        add_method(
            name,
            f"{loss.label} direct",
            partial(direct, loss, tanh=loss.tanh),
            defaults={**loss.defaults, **START},
            space={**loss.space, **START_SPACE},
            family="direct",
            loss=name,
        )
    for name, loss in {**OWN, **PML}.items():
        add_method(
            f"{name}_nm",
            f"{loss.label} + NMLayer",
            partial(merged_by_settings, loss, tanh=loss.tanh),
            defaults={**loss.defaults, **DEFAULTS, **START},
            space={**loss.space, **START_SPACE},
            family="nm",
            loss=name,
        )


_register()
