"""Which unlabelled items belong to classes that have labels, and how many do."""

import torch
from torch import Tensor

_BINS = 20
_ROUNDS = 200
_BLOCK = 1024  # rows of scores held twice


def known_share(trusted: Tensor, classes: Tensor, scores: Tensor) -> tuple[float, Tensor]:
    r"""Estimate how many items belong to known classes, by the classifier's confidence.

    Labelled items show how sure it is of items whose class it knows. Without the score of
    their own class they show how sure it is of others.

    Formula:  f = π f_known + (1 - π) f_new, by expectation maximization on the logarithm
              of the odds of the likeliest class, in 20 bins of equal size.

    Args:
        trusted: (N, C) out-of-fold scores of the labelled items: logarithms of class
            probabilities, up to a constant of each item.
        classes: (N,) their class indices.
        scores: (M, C) of the unlabelled items, M >= 1.

    Returns:
        the share π, and for each unlabelled item the chance (M,) that its class is known.

    Source:   adjusting a classifier to new priors (Saerens, Latinne, Decaestecker, Neural
              Computation 2002).  Differs: two classes, known and new, told by confidence.

    Example:
        >>> labels = torch.arange(300) % 3
        >>> sure, unsure = 5 * torch.eye(3)[labels], torch.zeros(300, 3)
        >>> round(known_share(sure, labels, sure)[0])
        1
        >>> round(known_share(sure, labels, unsure)[0])
        0
    """
    known, found = _log_odds(trusted), _log_odds(scores)
    new = _log_odds(trusted, without=classes)
    both = torch.cat([known, new]).sort().values
    levels = torch.linspace(0, 1, _BINS + 1)[1:-1]
    edges = both[(levels * (len(both) - 1)).long()]
    bins = torch.bucketize(found, edges)
    of_known, of_new, of_found = (
        _frequencies(torch.bucketize(v, edges)) for v in (known, new, found)
    )
    share = 0.5
    chance = of_known
    for _ in range(_ROUNDS):
        chance = share * of_known / (share * of_known + (1 - share) * of_new)
        share = float((of_found * chance).sum())
    return share, chance[bins]


def _log_odds(scores: Tensor, without: Tensor | None = None) -> Tensor:
    """Odds (N,) of the likeliest class against all others, but one class of each item.

    Odds of scores stay finite where a probability rounds to 1. Classes may be many, so
    rows are taken in blocks.
    """
    odds = []
    for start in range(0, len(scores), _BLOCK):
        block = scores[start : start + _BLOCK].to(torch.float64, copy=True)
        if without is not None:
            own = without[start : start + _BLOCK, None]
            block.scatter_(1, own, -torch.inf)
        best, place = block.max(1, keepdim=True)
        rest = block.scatter(1, place, -torch.inf).logsumexp(1)
        odds.append(best[:, 0] - rest)
    return torch.cat(odds)


def _frequencies(bins: Tensor) -> Tensor:
    counts = torch.bincount(bins, minlength=_BINS).float() + 1  # no bin is impossible
    return counts / counts.sum()
