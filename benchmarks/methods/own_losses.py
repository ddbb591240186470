"""The hashing losses of this package, with the options that a benchmark may tune."""

from functools import partial

from pml_nmlayer import losses

from ..search import Choice
from .loss_table import QUANTIZATION, Loss

OWN = {
    "dpsh": Loss(
        "DPSH",
        losses.DPSHLoss,
        {"quantization_weight": 0.1},
        {"quantization_weight": QUANTIZATION},
    ),
    "dpsh_plain": Loss(  # as published: similar and dissimilar pairs weigh what they are
        "DPSH, plain mean",
        partial(losses.DPSHLoss, preset="paper"),
        {"quantization_weight": 0.1},
        {"quantization_weight": QUANTIZATION},
    ),
    "dhn": Loss(
        "DHN",
        losses.DHNLoss,
        {"quantization_weight": 0.1},
        {"quantization_weight": QUANTIZATION},
    ),
    "dsh": Loss(
        "DSH",
        losses.DSHLoss,
        {"margin": 2.0, "quantization_weight": 0.01},
        {"margin": Choice(1.0, 2.0, 3.0), "quantization_weight": QUANTIZATION},
    ),
    "dtsh": Loss(
        "DTSH",
        losses.DTSHLoss,
        {"margin": 0.25, "quantization_weight": 0.1},
        {"margin": Choice(0.0, 0.125, 0.25, 0.5), "quantization_weight": QUANTIZATION},
    ),
    "hashnet": Loss(
        "HashNet",
        losses.HashNetLoss,
        {"alpha": 10.0, "beta_growth": 0.005},
        {"alpha": Choice(5.0, 10.0, 20.0), "beta_growth": Choice(0.0, 0.005, 0.02)},
        tanh=False,
    ),
    "dfh": Loss(
        "DFH",
        losses.DFHLoss,
        {"margin": 0.0, "quantization_weight": 0.5},
        {
            "margin": Choice(0.0, 0.1, 0.25),
            "quantization_weight": Choice(0.1, 0.5, 1.0),
        },
    ),
    "mihash": Loss(
        "MIHash",
        losses.MIHashLoss,
        {"sharpness": 3.0},
        {"sharpness": Choice(1.0, 2.0, 3.0, 5.0)},
    ),
    "tie_aware_ap": Loss(
        "TieAwareAP",
        losses.TieAwareAPLoss,
        {"sharpness": 3.0},
        {"sharpness": Choice(1.0, 2.0, 3.0, 5.0)},
    ),
    "csq": Loss(
        "CSQ",
        losses.CSQLoss,
        {"quantization_weight": 0.05},
        {"quantization_weight": Choice(0.0, 0.01, 0.05, 0.2)},
        per_class=True,
        centres=True,
        tanh=False,
    ),
    "orthohash": Loss(
        "OrthoHash",
        losses.OrthoHashLoss,
        {"scale": 8.0, "margin": 0.2},
        {"scale": Choice(4.0, 8.0, 16.0), "margin": Choice(0.0, 0.2, 0.4)},
        per_class=True,
        centres=True,
    ),
    "dpn": Loss(
        "DPN",
        losses.DPNLoss,
        {"margin": 1.0},
        {"margin": Choice(0.5, 1.0, 2.0)},
        per_class=True,
        centres=True,
        tanh=False,  # it would flatten the hinge: 2 points less on CIFAR-100
    ),
    "greedyhash": Loss(
        "GreedyHash",
        losses.GreedyHashLoss,
        {"quantization_weight": 0.1},
        {"quantization_weight": QUANTIZATION},
        per_class=True,
        learned=True,
    ),
    "dsdh": Loss(
        "DSDH",
        partial(losses.DSDHLoss, closed_form=True),
        {"class_weight": 3.0, "ridge_weight": 1.0, "quantization_weight": 0.1},
        {"class_weight": Choice(0.3, 1.0, 3.0), "ridge_weight": Choice(0.1, 0.3, 1.0)},
        per_class=True,
        any_width=True,
    ),
    "jmlh": Loss(
        "JMLH",
        losses.JMLHLoss,
        {"kl_weight": 1.0},
        {"kl_weight": Choice(0.1, 0.3, 1.0)},
        per_class=True,
        learned=True,
        tanh=False,
    ),
}
