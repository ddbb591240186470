"""What the kernels suite times: for each kernel our way, and what one would use instead."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import torch
from pytorch_metric_learning.losses import ContrastiveLoss
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from torch import Tensor, nn

from pml_nmlayer import losses
from pml_nmlayer.codes import binarize, pack_codes
from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.losses import DPSHLoss, NMLoss
from pml_nmlayer.ranking import mean_average_precision

from ..interface import Problem
from ..registry import Registry
from ..results import Spec
from ..suites import EVALUATION
from ..training.learner import HIDDEN, Learner


@dataclass(frozen=True)
class Contest:
    """Two ways to do the same, and what the other way is called."""

    ours: Callable[[], Any]
    peer: Callable[[], Any]
    peer_label: str


KERNELS: Registry[Callable[[Spec], Contest]] = Registry("kernel")


def kernel(name: str) -> Callable[[Callable[[Spec], Contest]], Callable[[Spec], Contest]]:
    """Register a function spec -> Contest under `name`."""

    def register(make: Callable[[Spec], Contest]) -> Callable[[Spec], Contest]:
        KERNELS.add(name, make)
        return make

    return register


def _loss_names() -> list[str]:
    return [name for name in dir(losses) if name.endswith("Loss") and name[0] != "_"]


def _make_loss(name: str, spec: Spec) -> nn.Module:
    """Build a loss with default arguments, given what PML's conventions leave open."""
    known = {
        "num_classes": spec["classes"],
        "embedding_size": spec["bits"],
        "loss": ContrastiveLoss(),
        "head": ProgressiveHead(HIDDEN, bits=(spec["bits"],)),
    }
    kind = getattr(losses, name)
    parameters = inspect.signature(kind).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.name != "kwargs"]
    return kind(**{name: known[name] for name in needed})


def _loss_contest(name: str, spec: Spec) -> Contest:
    u = torch.randn(spec["batch_size"], spec["bits"], requires_grad=True)
    labels = torch.arange(spec["batch_size"]) % spec["classes"]

    def step(loss: nn.Module) -> Callable[[], None]:
        return lambda: loss(u, labels).backward()

    return Contest(
        step(_make_loss(name, spec)), step(ContrastiveLoss()), "PML ContrastiveLoss"
    )


for _name in _loss_names():
    KERNELS.add(
        f"loss/{_name}",
        lambda spec, name=_name: _loss_contest(name, spec),  # type: ignore[misc]
    )


def _codes(spec: Spec) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Noisy class codes: queries, their labels, database, its labels."""
    centres = binarize(torch.randn(spec["classes"], spec["bits"]))

    def draw(count: int) -> tuple[Tensor, Tensor]:
        labels = torch.randint(spec["classes"], (count,))
        noise = torch.where(torch.rand(count, spec["bits"]) < 0.25, -1.0, 1.0)
        return centres[labels] * noise, labels

    return *draw(spec["queries"]), *draw(spec["database"])


def argsort_map(
    q: np.ndarray, q_labels: np.ndarray, r: np.ndarray, r_labels: np.ndarray
) -> float:
    """Compute mAP as most hashing code does: one argsort a query, ties as they fall."""
    values = []
    for code, label in zip(q, q_labels, strict=True):
        order = np.argsort((code.shape[0] - r @ code) / 2)
        relevant = r_labels[order] == label
        ranks = np.flatnonzero(relevant) + 1
        values.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
    return float(np.mean(values))


def map_against_argsort(spec: Spec) -> Contest:
    codes = _codes(spec)
    arrays = [values.numpy() for values in codes]
    return Contest(
        lambda: mean_average_precision(*codes),
        lambda: argsort_map(*arrays),
        "numpy argsort",
    )


def map_against_pml(spec: Spec) -> Contest:
    q, q_labels, r, r_labels = _codes(spec)
    calculator = AccuracyCalculator(
        include=("mean_average_precision",), k=None, device=torch.device("cpu")
    )
    return Contest(
        lambda: mean_average_precision(q, q_labels, r, r_labels),
        lambda: calculator.get_accuracy(q, q_labels, r, r_labels),
        "PML AccuracyCalculator(k=None)",
    )


def map_against_faiss(spec: Spec) -> Contest:
    """Compare mAP@all with a mere search for 100 neighbours in the same packed codes."""
    q, q_labels, r, r_labels = _codes(spec)
    packed = pack_codes(q), pack_codes(r)
    index = faiss.IndexBinaryFlat(8 * packed[1].shape[1])
    index.add(packed[1].numpy())
    k = min(100, len(r))
    return Contest(
        lambda: mean_average_precision(
            packed[0], q_labels, packed[1], r_labels, bits=spec["bits"]
        ),
        lambda: index.search(packed[0].numpy(), k),
        f"faiss IndexBinaryFlat.search, k = {k}",
    )


for _name, _make in (
    ("map/argsort", map_against_argsort),
    ("map/pml", map_against_pml),
    (f"{EVALUATION}argsort", map_against_argsort),
    (f"{EVALUATION}pml", map_against_pml),
    (f"{EVALUATION}faiss", map_against_faiss),
):
    KERNELS.add(_name, _make)


STEP_WIDTH, STEP_BITS = 512, (96, 48, 24, 12)


def _head_step(spec: Spec, head: nn.Module, loss: nn.Module) -> Callable[[], None]:
    """Make one training step of a network that is little more than a head."""
    features = torch.randn(spec["batch_size"], STEP_WIDTH)
    labels = torch.arange(spec["batch_size"]) % spec["classes"]
    net = nn.Sequential(nn.Linear(STEP_WIDTH, STEP_WIDTH), nn.ReLU(), head)
    optimizer = torch.optim.Adam(net.parameters())

    def step() -> None:
        optimizer.zero_grad()
        loss(net(features), labels).backward()
        optimizer.step()

    return step


def active_step(spec: Spec, scorer: str, num_classes: int | None = None) -> Contest:
    """Time a step while all neurons are active, against one without NMLayer.

    Args:
        spec: of the kernel.
        scorer: by name.
        num_classes: of whose codes means are kept, and that a classifier learns, too.
    """
    head = ProgressiveHead(STEP_WIDTH, STEP_BITS, scorer=scorer, num_classes=num_classes)
    peer = nn.Sequential(nn.Linear(STEP_WIDTH, STEP_BITS[0]), nn.Tanh())
    ours = _head_step(spec, head, NMLoss(DPSHLoss(), head))
    # as many steps a call as lie between two measurements of pairs
    every = head.current_layer.scorer.every_n_steps
    plain = _head_step(spec, peer, DPSHLoss())
    return Contest(
        lambda: [ours() for _ in range(every)],
        lambda: [plain() for _ in range(every)],
        f"{every} steps, nn.Linear of {STEP_BITS[0]}",
    )


for _scorer in ("correlation", "drop_one", "complementary", "merge_cost"):
    KERNELS.add(
        f"step/active_{_scorer}",
        lambda spec, scorer=_scorer: active_step(spec, scorer),  # type: ignore[misc]
    )


def merged_step(spec: Spec, num_classes: int) -> Contest:
    """Time a step of a merged head that knows classes, against 12 neurons.

    Args:
        spec: of the kernel.
        num_classes: read from the bits, and pulled to codewords, too, if more than 12.
    """
    bits = STEP_BITS[0], STEP_BITS[-1]
    head = ProgressiveHead(STEP_WIDTH, bits, num_classes=num_classes)
    labels = torch.arange(spec["batch_size"]) % spec["classes"]
    head.observe(head(torch.randn(spec["batch_size"], STEP_WIDTH)), labels)
    head.merge_next()
    peer = nn.Sequential(nn.Linear(STEP_WIDTH, bits[-1]), nn.Tanh())
    ours = _head_step(spec, head, NMLoss(DPSHLoss(), head))
    plain = _head_step(spec, peer, DPSHLoss())
    return Contest(ours, plain, f"same step, nn.Linear of {bits[-1]}")


for _name, _classes in (("codewords", 2 * STEP_BITS[-1]), ("labels", STEP_BITS[-1])):
    KERNELS.add(
        f"step/active_{_name}",
        lambda spec, count=_classes: active_step(  # type: ignore[misc]
            spec, "correlation", count
        ),
    )
    KERNELS.add(
        f"step/merged_{_name}",
        lambda spec, count=_classes: merged_step(spec, count),  # type: ignore[misc]
    )


def folded_head(
    spec: Spec, merge: Any, in_network: bool, classifier: bool = False
) -> Contest:
    """Time a folded head of 12 bits, against a plain Linear of 12.

    Merged after tanh it keeps its 96 neurons, with eight times the products of 12.

    Args:
        spec: of the kernel.
        merge: see `ProgressiveHead`.
        in_network: both behind the layer of 512 that training steps are timed with.
        classifier: whether the head has one.
    """
    num_classes = spec["classes"] if classifier else None
    head = ProgressiveHead(STEP_WIDTH, STEP_BITS, merge=merge, num_classes=num_classes)
    x = torch.randn(spec["batch_size"], STEP_WIDTH)
    labels = torch.arange(spec["batch_size"]) % spec["classes"]
    while not head.finished:
        head.observe(head(x), labels)
        head.merge_next()
    folded = head.fold()
    if merge == "linear":  # sign(tanh(x)) = sign(x)
        assert isinstance(folded, nn.Sequential)
        folded = folded[0]
    plain: nn.Module = nn.Linear(STEP_WIDTH, STEP_BITS[-1])
    peer = "nn.Linear of 12"
    if in_network:
        trunk = nn.Sequential(nn.Linear(STEP_WIDTH, STEP_WIDTH), nn.ReLU())
        folded, plain = nn.Sequential(trunk, folded), nn.Sequential(trunk, plain)
        peer = "same network, nn.Linear of 12"

    def without_grad(module: nn.Module) -> Callable[[], None]:
        def call() -> None:
            with torch.no_grad():
                module(x)

        return call

    return Contest(without_grad(folded), without_grad(plain), peer)


for _merge in ("linear", "tanh"):
    for _what, _in_network in (("folded", False), ("network", True)):
        KERNELS.add(
            f"serve/{_what}_{_merge}",
            lambda spec, merge=_merge, whole=_in_network: folded_head(  # type: ignore[misc]
                spec, merge, whole
            ),
        )


KERNELS.add(
    "serve/network_classifier",
    lambda spec: folded_head(spec, "linear", in_network=True, classifier=True),
)


@kernel("step/active_nmlayer")
def chain_step(spec: Spec) -> Contest:
    """Time one training step while all of 96 neurons are active, against 12 plain ones."""
    features = torch.rand(spec["batch_size"], 64)
    labels = torch.arange(spec["batch_size"]) % spec["classes"]
    problem = Problem(64, spec["classes"], 12, 1, 1.0, spec["batch_size"])
    head = ProgressiveHead(HIDDEN, bits=(96, 48, 24, 12))
    ours = Learner(problem, head, NMLoss(DPSHLoss(), head), lr=1e-3)
    peer = Learner(problem, nn.Linear(HIDDEN, 12), DPSHLoss(), lr=1e-3)

    def step(learner: Learner) -> Callable[[], None]:
        optimizers = learner.optimizers()
        return lambda: learner.step(features, labels, optimizers)

    return Contest(step(ours), step(peer), "same step, nn.Linear head of 12")
