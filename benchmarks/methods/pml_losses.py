"""The losses of pytorch-metric-learning, with the options that a benchmark may tune."""

from pytorch_metric_learning import losses
from pytorch_metric_learning.miners import BatchEasyHardMiner

from ..search import Choice
from .few_anchors import FewAnchors
from .loss_table import TEMPERATURE, Loss
from .square_batches import square_batches

PML = {
    "contrastive": Loss(
        "Contrastive",
        losses.ContrastiveLoss,
        {"neg_margin": 1.0},
        {"neg_margin": Choice(0.5, 1.0, 1.5)},
    ),
    "triplet": Loss(
        "TripletMargin",
        lambda margin, negatives, **more: losses.TripletMarginLoss(margin, **more),
        {"margin": 0.2, "negatives": "semihard"},
        {"margin": Choice(0.05, 0.1, 0.2, 0.5), "negatives": Choice("hard", "semihard")},
        miner=lambda margin, negatives: BatchEasyHardMiner(
            pos_strategy="hard", neg_strategy=negatives
        ),
    ),
    "multi_similarity": Loss(
        "MultiSimilarity",
        losses.MultiSimilarityLoss,
        {"beta": 50, "base": 0.5},
        {"beta": Choice(10, 25, 50), "base": Choice(0.0, 0.25, 0.5, 0.75)},
    ),
    "supcon": Loss(
        "SupCon", losses.SupConLoss, {"temperature": 0.1}, {"temperature": TEMPERATURE}
    ),
    "proxy_anchor": Loss(
        "ProxyAnchor",
        losses.ProxyAnchorLoss,
        {"alpha": 32},
        {"alpha": Choice(8, 16, 32)},
        per_class=True,
        learned=True,
    ),
    "ntxent": Loss(
        "NTXent",
        losses.NTXentLoss,
        {"temperature": 0.1},
        {"temperature": TEMPERATURE},
        miner=lambda temperature: FewAnchors(),
    ),
    # PML's scale of 1 cannot tell unit vectors apart; so of ProxyNCA, too.
    "nca": Loss(
        "NCA",
        losses.NCALoss,
        {"softmax_scale": 8.0},
        {"softmax_scale": Choice(1.0, 4.0, 8.0, 16.0)},
    ),
    "circle": Loss(
        "Circle",
        losses.CircleLoss,
        {"m": 0.4, "gamma": 80},
        {"m": Choice(0.25, 0.4), "gamma": Choice(16, 32, 80, 256)},
    ),
    "fastap": Loss(
        "FastAP", losses.FastAPLoss, {"num_bins": 10}, {"num_bins": Choice(5, 10, 20)}
    ),
    "smoothap": Loss(
        "SmoothAP",
        losses.SmoothAPLoss,
        {"temperature": 0.01},
        {"temperature": Choice(0.01, 0.03, 0.1)},
        draw=square_batches,
    ),
    "proxy_nca": Loss(
        "ProxyNCA",
        losses.ProxyNCALoss,
        {"softmax_scale": 8.0},
        {"softmax_scale": Choice(1.0, 4.0, 8.0, 16.0)},
        per_class=True,
        learned=True,
    ),
    "arcface": Loss(
        "ArcFace",
        losses.ArcFaceLoss,
        {"scale": 32},
        {"scale": Choice(8, 16, 32, 64)},
        per_class=True,
        learned=True,
    ),
    "cosface": Loss(
        "CosFace",
        losses.CosFaceLoss,
        {"scale": 32},
        {"scale": Choice(8, 16, 32, 64)},
        per_class=True,
        learned=True,
    ),
    "softtriple": Loss(
        "SoftTriple",
        losses.SoftTripleLoss,
        {"la": 20, "centers_per_class": 2},
        {"la": Choice(10, 20, 40)},
        per_class=True,
        learned=True,
    ),
}
