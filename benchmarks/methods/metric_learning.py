"""Losses of pytorch-metric-learning on ordinary embeddings, and ways from them to bits."""

from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import normalize

from pml_nmlayer.regularizers import (
    BitDecorrelationRegularizer,
    QuantizationRegularizer,
    WeightedSumRegularizer,
)

from ..interface import Encoded, Method, Problem, add_method
from ..search import Choice
from ..training.learner import (
    Learner,
    evaluating,
    outputs_of,
    sign_and_float,
    starting,
)
from ..training.pictures import Pictures
from . import quantizers
from .loss_table import START, START_SPACE, Loss, parts
from .pml_losses import PML
from .product_codes import Product
from .quantizers import Quantizer

WIDTH = 128  # of the embeddings that are quantized afterwards
ITQ_ITERATIONS = 50
DIMENSIONS = 48  # of PQ
# Methods whose network can serve others: they have `embedding(items)`.
EMBEDDERS = (*(f"{name}_post" for name in PML), "classifier_codes")
WEIGHT = Choice(0.01, 0.1, 1.0)


def sign_of(loss: Loss, problem: Problem, **options: Any) -> Method:
    """Train a linear head without activation, as PML users do, and take signs."""
    problem = starting(problem, options["start"])
    own = parts(loss, problem, problem.bits, options)
    head = nn.Linear(problem.width, problem.bits)
    return Learner(problem, head, encoding=sign_and_float, **own)


def regularized(
    loss: Loss, problem: Problem, *, regularizer_weight: float, **options: Any
) -> Method:
    """Pull the outputs of the same head to ±1, and its bits apart."""
    terms = [QuantizationRegularizer(), BitDecorrelationRegularizer()]
    more = {
        "embedding_regularizer": WeightedSumRegularizer(terms),
        "embedding_reg_weight": regularizer_weight,
    }
    own = parts(loss, problem, problem.bits, options, **more)
    head = nn.Linear(problem.width, problem.bits)
    return Learner(problem, head, encoding=_sign, **own)


def _sign(outputs: Tensor) -> dict[str, Encoded]:
    both = sign_and_float(outputs)
    return {name: values for name, values in both.items() if name != "float"}


class PostLearner(Learner):
    """An embedding whose directions are quantized in some ways once it is trained.

    Quantizers are fitted on the items that will be searched.
    """

    uses_database = True

    def __init__(
        self,
        ways: dict[str, Quantizer | Product],
        problem: Problem,
        head: nn.Module,
        **parts: Any,
    ) -> None:
        super().__init__(problem, head, encoding=self._quantized, **parts)
        self.ways = ways

    def fit(
        self, features: Tensor | Pictures, labels: Tensor, database: Any = None
    ) -> None:
        super().fit(features, labels)
        vectors = self.embedding(features if database is None else database)
        for quantizer in self.ways.values():
            quantizer.train(vectors)

    def embedding(self, items: Tensor | Pictures) -> Tensor:
        """Embed items as vectors of length 1 (N, WIDTH), for methods behind this one."""
        with evaluating(self.trunk, self.head):
            network = nn.Sequential(self.trunk, self.head)
            return normalize(outputs_of(network, items, self.problem))

    def _quantized(self, outputs: Tensor) -> dict[str, Encoded]:
        vectors = normalize(outputs)
        found: dict[str, Encoded] = {}
        for name, each in self.ways.items():
            if isinstance(each, Product):
                found |= each.pairs(name, vectors)
            else:
                found |= quantizers.both_sides(name, each.outputs(vectors))
        return found

    def head_parameters(self) -> tuple[int, int]:
        """Count the head and the first of its quantizers."""
        first, *_ = self.ways.values()
        assert isinstance(first, Quantizer)
        training, serving = super().head_parameters()
        return training + first.numbers, serving + first.numbers


def post(loss: Loss, problem: Problem, **options: Any) -> Method:
    """Train an embedding of WIDTH dimensions, then find K bits for it in the database."""
    problem = starting(problem, options["start"])
    own = parts(loss, problem, WIDTH, options)
    head = nn.Linear(problem.width, WIDTH)
    ways: dict[str, Quantizer | Product] = {
        "itq": quantizers.itq(WIDTH, problem.bits, ITQ_ITERATIONS),
        "pca": quantizers.pca_sign(WIDTH, problem.bits),
        "lsh": quantizers.lsh(WIDTH, problem.bits),
        "pq": Product(problem.bits, DIMENSIONS, rotated=False),
    }
    return PostLearner(ways, problem, head, **own)


for _name, _loss in PML.items():
    add_method(
        _name,
        _loss.label,
        partial(sign_of, _loss),
        defaults={**_loss.defaults, **START},
        space={**_loss.space, **START_SPACE},
        encodings=("sign", "float"),
        family="direct",
        loss=_name,
    )
for _name, _loss in PML.items():
    # The weight takes the place of the loss' last option: as many are searched as before.
    _kept = dict(list(_loss.space.items())[:2])
    add_method(
        f"{_name}_reg",
        f"{_loss.label} + regularizers",
        partial(regularized, _loss),
        defaults={**_loss.defaults, "regularizer_weight": 0.1},
        space={**_kept, "regularizer_weight": WEIGHT},
        encodings=("sign",),
        family="reg",
        loss=_name,
    )
    add_method(
        f"{_name}_post",
        f"{_loss.label} ({WIDTH}-d)",
        partial(post, _loss),
        defaults={**_loss.defaults, **START},
        space={**_loss.space, **START_SPACE},
        encodings=("itq", "pca", "lsh", "pq"),
        family="post",
        loss=_name,
    )
