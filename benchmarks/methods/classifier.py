"""Codes that say no more than a predicted class: what hashing has to be better than."""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pml_nmlayer.classes.codebooks import make_codebook
from pml_nmlayer.codes import binarize

from ..interface import Encoded, Method, Problem, method
from ..training.learner import Learner, evaluating, outputs_of
from ..training.pictures import Pictures
from .loss_table import LR


class Classify(nn.Module):
    """Cross-entropy of class scores: softmax for class ids, sigmoids for several labels."""

    def forward(self, scores: Tensor, labels: Tensor, tuples: None) -> Tensor:
        if labels.ndim == 2:
            return F.binary_cross_entropy_with_logits(scores, labels.to(scores.dtype))
        return F.cross_entropy(scores, labels)


def codewords(scores: Tensor, codebook: Tensor, multi_label: bool) -> Mapping[str, Encoded]:
    r"""Turn class scores into codes.

    Formula:  the codeword of the best class; with several labels
              b_k = sign(sum over classes c of sigmoid(score_c) codeword_ck).
    """
    if multi_label:
        return {"code": binarize(scores.sigmoid() @ codebook)}
    return {"code": codebook[scores.argmax(1)]}


class Classifier(Learner):
    """A trunk with class scores; methods behind it are given what the trunk makes."""

    def embedding(self, items: Tensor | Pictures) -> Tensor:
        """Return the features that the scores are read from (N, problem.width)."""
        with evaluating(self.trunk):
            return outputs_of(self.trunk, items, self.problem)

    def predicted(self, items: Tensor | Pictures) -> Tensor:
        """Name the best class of each item (N,), numbered as in training."""
        with evaluating(self.trunk, self.head):
            network = nn.Sequential(self.trunk, self.head)
            return outputs_of(network, items, self.problem).argmax(1)


@method("classifier_codes", "Classifier output", family="class", lr=LR)
def classifier_codes(problem: Problem, lr: float = 1e-3) -> Method:
    """Train a classifier, and give each of its classes a codeword of K bits.

    Source: Sablayrolles, Douze, Usunier, Jegou, ICASSP 2017.  Differs: codewords are those
    of `make_codebook`, far apart; several labels an item vote (see `codewords`).
    """
    seed = int(torch.randint(2**31, ()))
    codebook = make_codebook(problem.num_classes, problem.bits, seed=seed)
    head = nn.Linear(problem.width, problem.num_classes)
    encoding = partial(codewords, codebook=codebook, multi_label=problem.multi_label)
    return Classifier(problem, head, Classify(), lr, encoding=encoding)
