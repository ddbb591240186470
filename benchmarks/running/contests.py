"""What the kernels suite times: for each kernel our way, and what one would use instead.

A contest is made from a spec and a device. Both sides compute there, except peers that know
only the CPU (numpy, faiss); their label says so.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import faiss
import numpy as np
import torch
from pytorch_metric_learning.losses import ContrastiveLoss
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from torch import Tensor, nn

from pml_nmlayer import losses
from pml_nmlayer.codes import binarize, pack_codes
from pml_nmlayer.losses import DPSHLoss
from pml_nmlayer.ranking import mean_average_precision

from ..interface import Problem
from ..registry import Registry
from ..results import Spec
from ..suites import EVALUATION
from ..training.heads import make_head, make_nm_loss
from ..training.learner import HIDDEN, Learner


@dataclass(frozen=True)
class Contest:
    """Two ways to do the same, and what the other way is called."""

    ours: Callable[[], Any]
    peer: Callable[[], Any]
    peer_label: str


Maker = Callable[[Spec, str], Contest]
KERNELS: Registry[Maker] = Registry("kernel")


def kernel(name: str) -> Callable[[Maker], Maker]:
    """Register a function (spec, device) -> Contest under `name`."""

    def register(make: Maker) -> Maker:
        KERNELS.add(name, make)
        return make

    return register


def _loss_names() -> list[str]:
    """All but a wrapper that takes two views in the place of labels."""
    names = [name for name in dir(losses) if name.endswith("Loss") and name[0] != "_"]
    return [name for name in names if name != "HashSelfSupervisedLoss"]


def _make_loss(name: str, spec: Spec) -> nn.Module:
    """Build a loss with default arguments, given what PML's conventions leave open."""
    known = {
        "num_classes": spec["classes"],
        "embedding_size": spec["bits"],
        "loss": ContrastiveLoss(),
        "head": make_head(HIDDEN, (spec["bits"],)),
    }
    kind = getattr(losses, name)
    parameters = inspect.signature(kind).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.name != "kwargs"]
    return kind(**{name: known[name] for name in needed})


def _loss_contest(spec: Spec, device: str, name: str) -> Contest:
    u = torch.randn(spec["batch_size"], spec["bits"]).to(device).requires_grad_()
    labels = batch_labels(spec, device)

    def step(loss: nn.Module) -> Callable[[], None]:
        return lambda: loss(u, labels).backward()

    loss = _make_loss(name, spec).to(device)
    return Contest(step(loss), step(ContrastiveLoss()), "PML ContrastiveLoss")


def batch_labels(spec: Spec, device: str) -> Tensor:
    """Give class ids to a batch, the same number to each class."""
    return torch.arange(spec["batch_size"], device=device) % spec["classes"]


for _name in _loss_names():
    KERNELS.add(f"loss/{_name}", partial(_loss_contest, name=_name))


def noisy_codes(
    spec: Spec, device: str, noise: float = 0.25
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Noisy class codes: queries, their labels, database, its labels."""
    centres = binarize(torch.randn(spec["classes"], spec["bits"]))

    def draw(count: int) -> tuple[Tensor, Tensor]:
        labels = torch.randint(spec["classes"], (count,))
        signs = torch.where(torch.rand(count, spec["bits"]) < noise, -1.0, 1.0)
        return (centres[labels] * signs).to(device), labels.to(device)

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


def map_against_argsort(spec: Spec, device: str) -> Contest:
    codes = noisy_codes(spec, device)
    arrays = [values.cpu().numpy() for values in codes]
    return Contest(
        lambda: mean_average_precision(*codes),
        lambda: argsort_map(*arrays),
        "numpy argsort" + where(device),
    )


def where(device: str) -> str:
    """What to add to the label of a peer that stays on the CPU."""
    return "" if device == "cpu" else ", CPU"


def map_against_pml(spec: Spec, device: str) -> Contest:
    q, q_labels, r, r_labels = noisy_codes(spec, device)
    calculator = AccuracyCalculator(
        include=("mean_average_precision",), k=None, device=torch.device(device)
    )
    return Contest(
        lambda: mean_average_precision(q, q_labels, r, r_labels),
        lambda: calculator.get_accuracy(q, q_labels, r, r_labels),
        "PML AccuracyCalculator(k=None)",
    )


def map_against_faiss(spec: Spec, device: str) -> Contest:
    """Compare mAP@all with a mere search for 100 neighbours in the same packed codes."""
    q, q_labels, r, r_labels = noisy_codes(spec, device)
    packed = pack_codes(q), pack_codes(r)
    queries, database = (values.cpu().numpy() for values in packed)
    index = faiss.IndexBinaryFlat(8 * database.shape[1])
    index.add(database)
    k = min(100, len(r))
    return Contest(
        lambda: mean_average_precision(
            packed[0], q_labels, packed[1], r_labels, bits=spec["bits"]
        ),
        lambda: index.search(queries, k),
        f"faiss IndexBinaryFlat.search, k = {k}{where(device)}",
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


def _head_step(
    spec: Spec, head: nn.Module, loss: nn.Module, device: str
) -> Callable[[], None]:
    """Make one training step of a network that is little more than a head."""
    features = torch.randn(spec["batch_size"], STEP_WIDTH).to(device)
    labels = batch_labels(spec, device)
    net = nn.Sequential(nn.Linear(STEP_WIDTH, STEP_WIDTH), nn.ReLU(), head).to(device)
    optimizer = torch.optim.Adam(net.parameters())

    def step() -> None:
        optimizer.zero_grad()
        loss(net(features), labels).backward()
        optimizer.step()

    return step


def active_step(
    spec: Spec, device: str, scorer: str | None, num_classes: int | None = None
) -> Contest:
    """Time a step while all neurons are active, against one without NMLayer.

    Args:
        spec: of the kernel.
        device: where to compute.
        scorer: by name; None for the default.
        num_classes: of whose codes means are kept, and that a classifier learns, too.
    """
    head = make_head(STEP_WIDTH, STEP_BITS, scorer=scorer, num_classes=num_classes)
    peer = nn.Sequential(nn.Linear(STEP_WIDTH, STEP_BITS[0]), nn.Tanh())
    ours = _head_step(spec, head, make_nm_loss(DPSHLoss(), head), device)
    # as many steps a call as lie between two measurements of pairs
    every = head.current_layer.scorer.every_n_steps
    plain = _head_step(spec, peer, DPSHLoss(), device)
    return Contest(
        lambda: [ours() for _ in range(every)],
        lambda: [plain() for _ in range(every)],
        f"{every} steps, nn.Linear of {STEP_BITS[0]}",
    )


for _scorer in ("correlation", "drop_one"):
    KERNELS.add(f"step/active_{_scorer}", partial(active_step, scorer=_scorer))


def merged_step(spec: Spec, device: str, num_classes: int) -> Contest:
    """Time a step of a merged head that knows classes, against 12 neurons.

    Args:
        spec: of the kernel.
        device: where to compute.
        num_classes: read from the bits, and pulled to codewords, too, if more than 12.
    """
    bits = STEP_BITS[0], STEP_BITS[-1]
    head = make_head(STEP_WIDTH, bits, num_classes=num_classes)
    x = torch.randn(spec["batch_size"], STEP_WIDTH)
    head.observe(head(x), torch.arange(len(x)) % num_classes)
    head.merge_next()
    peer = nn.Sequential(nn.Linear(STEP_WIDTH, bits[-1]), nn.Tanh())
    ours = _head_step(spec, head, make_nm_loss(DPSHLoss(), head), device)
    plain = _head_step(spec, peer, DPSHLoss(), device)
    return Contest(ours, plain, f"same step, nn.Linear of {bits[-1]}")


for _name, _classes in (("codewords", 2 * STEP_BITS[-1]), ("labels", STEP_BITS[-1])):
    KERNELS.add(
        f"step/active_{_name}",
        partial(active_step, scorer=None, num_classes=_classes),
    )
    KERNELS.add(f"step/merged_{_name}", partial(merged_step, num_classes=_classes))


def folded_head(
    spec: Spec, device: str, *, in_network: bool, classifier: bool = False
) -> Contest:
    """Time a folded head of 12 bits, against a plain Linear of 12.

    Args:
        spec: of the kernel.
        device: where to compute.
        in_network: both behind the layer of 512 that training steps are timed with.
        classifier: whether the head has one.
    """
    num_classes = spec["classes"] if classifier else None
    head = make_head(STEP_WIDTH, STEP_BITS, num_classes=num_classes)
    x = torch.randn(spec["batch_size"], STEP_WIDTH)
    while not head.finished:
        head.observe(head(x), batch_labels(spec, "cpu"))
        head.merge_next()
    folded = head.fold()
    assert isinstance(folded, nn.Sequential)
    folded = folded[0]  # sign(tanh(x)) = sign(x)
    plain: nn.Module = nn.Linear(STEP_WIDTH, STEP_BITS[-1])
    peer = "nn.Linear of 12"
    if in_network:
        trunk = nn.Sequential(nn.Linear(STEP_WIDTH, STEP_WIDTH), nn.ReLU())
        folded, plain = nn.Sequential(trunk, folded), nn.Sequential(trunk, plain)
        peer = "same network, nn.Linear of 12"
    folded, plain, x = folded.to(device), plain.to(device), x.to(device)

    def without_grad(module: nn.Module) -> Callable[[], None]:
        def call() -> None:
            with torch.no_grad():
                module(x)

        return call

    return Contest(without_grad(folded), without_grad(plain), peer)


for _name, _in_network, _classifier in (
    ("folded_linear", False, False),
    ("network_linear", True, False),
    ("network_classifier", True, True),
):
    KERNELS.add(
        f"serve/{_name}",
        partial(folded_head, in_network=_in_network, classifier=_classifier),
    )


@kernel("step/active_nmlayer")
def chain_step(spec: Spec, device: str) -> Contest:
    """Time one training step while all of 96 neurons are active, against 12 plain ones."""
    features = torch.rand(spec["batch_size"], 64).to(device)
    labels = batch_labels(spec, device)
    problem = Problem(64, spec["classes"], 12, 1, 1.0, spec["batch_size"], device=device)
    head = make_head(HIDDEN, (96, 48, 24, 12))
    ours = Learner(problem, head, make_nm_loss(DPSHLoss(), head), lr=1e-3)
    peer = Learner(problem, nn.Linear(HIDDEN, 12), DPSHLoss(), lr=1e-3)

    def step(learner: Learner) -> Callable[[], None]:
        optimizers = learner.optimizers()
        return lambda: learner.step(features, labels, optimizers)

    return Contest(step(ours), step(peer), "same step, nn.Linear head of 12")
