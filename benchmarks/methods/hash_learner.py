"""A trained hashing head that keeps what a report may ask about its bits."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pml_nmlayer.codes import binarize
from pml_nmlayer.heads.folding import empty_fold, fold_into
from pml_nmlayer.layers import NMLayer, ProgressiveHead
from pml_nmlayer.merging.graph import RedundancyGraph
from pml_nmlayer.merging.pair_likelihood import drop_one_importance

from ..interface import Encoded
from ..training.learner import Learner, evaluating, outputs_of
from ..training.pictures import Pictures

MOST_ITEMS = 1_000  # of the training set, for importances and correlations


@dataclass
class HashLearner(Learner):
    """A `Learner` of codes with diagnostics; `keep` is to be called after each merge.

    If its head keeps longer codes, items are encoded by these, too: `at_48`, `at_24`, ...

    Args:
        trace: encode items as they were encoded right before and right after each merge
            m = 1, 2, ..., too: encodings `before_m` and `after_m` of lengths of their own.
        learn_weights: train the weights of groups from the merge on, at the rate of the
            head. A control: a layer of the package keeps them.
    """

    trace: bool = False
    learn_weights: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.kept: dict[str, Tensor] = {}
        self.moments: dict[str, nn.Module] = {}

    def fit(self, features: Tensor | Pictures, labels: Tensor) -> None:
        """Train, and remember some of the items: evenly spread, so nothing is drawn."""
        count = min(len(features), MOST_ITEMS)
        rows = torch.arange(count) * len(features) // count
        self.sample = features[rows], labels[rows]
        super().fit(features, labels)

    def optimizers(self) -> list[torch.optim.Adam]:
        """Make those of a learner, the weights of groups included if they are learned."""
        optimizers = super().optimizers()
        if self.learn_weights:  # no gradient before the merge, hence no step either
            layers = [m for m in self.head.modules() if isinstance(m, NMLayer)]
            optimizers[0].add_param_group({"params": [each.weights for each in layers]})
        return optimizers

    def keep(self, head: ProgressiveHead) -> None:
        """Keep the graph, the groups and the network of the merge just made."""
        m = head.stage
        layer = head.layers[m - 1]
        assert isinstance(layer, NMLayer)
        layer.weights.requires_grad_(self.learn_weights)
        graph = layer.graph
        now = {
            "correlation": graph.correlation(),
            "groups": layer.groups,
            "weights": layer.weights,
        }
        if graph.scored_items > 0:  # else the scorer did not look at importances
            now["importance"] = graph.importance
        self.kept |= {
            f"{name}_{m}": values.detach().cpu().clone() for name, values in now.items()
        }
        if m == 1:
            self.kept["importance_start"] = self._importance(self._folded(head, m - 1))
        if self.trace:
            trunk = copy.deepcopy(self.trunk).eval()
            for when, stage in (("before", m - 1), ("after", m)):
                network = nn.Sequential(trunk, self._folded(head, stage))
                self.moments[f"{when}_{m}"] = network

    def _folded(self, head: ProgressiveHead, stage: int) -> nn.Module:
        """Fold the head as it was after `stage` merges, whatever it keeps."""
        device = self.problem.device
        forked = [device] if device.startswith("cuda") else []
        with torch.random.fork_rng(devices=forked):  # new modules draw first weights
            bits, tanh = head.all_bits[stage], head.activation == "tanh"
            folded = empty_fold(head.linear, head.classes, bits, tanh=tanh)
            merge = head.merge_matrix(stage)
            fold_into(folded, head.linear, head.norm, merge, head.classes)
            return folded.as_plain_modules()

    def _importance(self, head: nn.Module) -> Tensor:
        features, _ = self.sample
        with evaluating(self.trunk, head):
            codes = outputs_of(nn.Sequential(self.trunk, head), features, self.problem)
        return self._importance_of(binarize(codes))

    def _importance_of(self, codes: Tensor) -> Tensor:
        return drop_one_importance(codes, self.sample[1], threshold=True)[0]

    def encode(self, features: Tensor | Pictures) -> Mapping[str, Encoded]:
        """Encode with the head as it is served, and as it was around the merges."""
        found = dict(super().encode(features))
        if self.trace:
            found |= {name: self._codes_at(name, features) for name in self.moments}
        return found | self._longer_codes(features)

    def _longer_codes(self, features: Tensor | Pictures) -> dict[str, Tensor]:
        head, found = self.head, {}
        if isinstance(head, ProgressiveHead) and head.longer != "drop":
            with evaluating(self.trunk, head):
                for bits in head.all_bits[: head.stage]:
                    longer = nn.Sequential(self.trunk, head.fold(bits))
                    outputs = outputs_of(longer, features, self.problem)
                    found[f"at_{bits}"] = binarize(outputs)
        return found

    def _codes_at(self, moment: str, features: Tensor | Pictures) -> Tensor:
        return binarize(outputs_of(self.moments[moment], features, self.problem))

    def diagnostics(self) -> dict[str, np.ndarray]:
        """Tell what the graph saw at each merge, and what bits are worth.

        Of merge m: `correlation_m` (K, K), `groups_m` and `weights_m` (K,), and
        `importance_m` (K,) if the scorer measures it. On at most MOST_ITEMS training items:
        the drop-one importance (with a threshold) of the bits right before the first merge,
        `importance_start`, and of the final code, `importance_end`, whose mean absolute
        correlation between two bits is `mean_abs_correlation`.
        """
        codes = super().encode(self.sample[0])["code"]
        assert isinstance(codes, Tensor)
        found = {**self.kept, "importance_end": self._importance_of(codes)}
        found["mean_abs_correlation"] = mean_abs_correlation(codes)
        return {name: values.numpy() for name, values in found.items()}


def mean_abs_correlation(codes: Tensor) -> Tensor:
    """Average |correlation| over all pairs of bits; 0 with a bit that never flips."""
    bits = codes.shape[1]
    graph = RedundancyGraph(bits)
    graph.update(codes)
    return graph.correlation().abs().sum() / max(bits * (bits - 1), 1)
