"""From the spec of a quality suite to codes: train one method, encode, measure."""

import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pml_nmlayer.codes import pack_codes

from ..datasets import Split, load_split
from ..interface import ENCODINGS, Problem, Unsuited
from ..methods import METHODS
from ..results import Arrays, Record, Spec
from ..training.seeding import seed_everything
from .devices import Machine, describe_device, wait_for
from .inputs import open_inputs

_THIS = Machine()


def execute(
    spec: Spec, root: Path | None = None, machine: Machine = _THIS
) -> tuple[Record, Arrays]:
    """Train one method and encode queries and database.

    Args:
        spec: see `specs.make_spec`.
        root: the data folder; None for that of the environment.
        machine: where networks are trained.

    Returns:
        What was measured, as plain JSON, and the arrays that metrics are computed from. Of
        a method that does not suit the data set: its reason, as `refused`, and no arrays.
    """
    _check_source(spec)
    split = load_split(spec["dataset"], spec["seed"], spec["purpose"], root)
    try:
        return _measure(spec, split, machine)
    except Unsuited as error:
        return {"refused": str(error), "split": describe(split)}, {}


def _check_source(spec: Spec) -> None:
    found, wanted = METHODS[spec["method"]].source, spec.get("source")
    if found != wanted:
        raise ValueError(
            f"the run is of method {spec['method']} as {wanted} has it, but the one that "
            f"is loaded is of {found}; start the command again"
        )


def _measure(spec: Spec, split: Split, machine: Machine) -> tuple[Record, Arrays]:
    inputs = open_inputs(spec, split.features, machine)
    problem = Problem(
        num_classes=split.num_classes,
        bits=spec["bits"],
        epochs=spec["epochs"],
        decay=spec["decay"],
        batch_size=spec["batch_size"],
        multi_label=split.multi_label,
        device=machine.device,
        **inputs.problem,
    )
    _warm_up(machine.device)
    seed_everything(spec["seed"], machine.device)
    start = time.perf_counter()
    method = METHODS[spec["method"]].factory(problem, **spec["settings"])
    train_s = time.perf_counter() - start
    # features of an untrained trunk are made once for many methods, and are no one's time
    items: Any = inputs.of(method)
    start = time.perf_counter()
    method.fit(items[split.train], split.labels[split.train])
    wait_for(machine.device)
    train_s += time.perf_counter() - start

    codes = method.encode(items)
    encoded = {
        name: _stored(name, values, len(split.features), spec["bits"])
        for name, values in codes.items()
    }
    training, serving = method.head_parameters()
    if not getattr(method, "on_features", False):  # these have no trunk to stand on
        _check_budget(spec, training)
    record = {
        "train_s": train_s,
        "head_parameters": {"training": training, "serving": serving},
        "split": describe(split),
        "device": describe_device(machine.device),
        "inputs": inputs.about,
    }
    lengths = {
        f"bits_{n}": np.array(v.shape[1]) for n, v in codes.items() if n not in ENCODINGS
    }
    return record, {**raw_arrays(split, encoded), **lengths, **_diagnostics(method)}


def _stored(encoding: str, values: Tensor, count: int, bits: int) -> np.ndarray:
    """Check what a method made of all items, and pack codes."""
    if encoding == "float":
        return values.float().numpy()
    if encoding in ENCODINGS and values.shape != (count, bits):
        raise ValueError(f"asked for {bits} bits, got codes {tuple(values.shape)}")
    return pack_codes(values).numpy()


def _check_budget(spec: Spec, numbers: int) -> None:
    most = spec.get("head_parameters")
    if most is not None and numbers > most:
        raise ValueError(
            f"the head of {spec['method']} has {numbers:,} numbers while training, and the "
            f"suite allows head_parameters: {most:,}; choose smaller options"
        )


def _diagnostics(method: object) -> Arrays:
    diagnose = getattr(method, "diagnostics", dict)
    return {f"diagnostic_{name}": values for name, values in diagnose().items()}


@lru_cache(maxsize=1)
def _warm_up(device: str) -> None:
    """Let torch import what its first optimizer needs: it is no part of a training."""
    weight = torch.ones(1, requires_grad=True, device=device)
    optimizer = torch.optim.Adam([weight])
    optimizer.zero_grad()
    weight.sum().backward()
    optimizer.step()


def raw_arrays(split: Split, items: dict[str, np.ndarray]) -> Arrays:
    """Pick what a metric may see, and the ids by which the split can be checked.

    Args:
        split: who is query, and who is in the database.
        items: by encoding, one row an item of the whole set.
    """
    arrays = {f"{name}_ids": ids.numpy() for name, ids in split.parts().items()}
    for name, ids in (("query", split.queries), ("database", split.database)):
        for encoding, values in items.items():
            arrays[f"{name}_{encoding}"] = values[ids.numpy()]
        arrays[f"{name}_labels"] = split.labels[ids].numpy()
        if split.coarse_labels is not None:
            arrays[f"{name}_coarse_labels"] = split.coarse_labels[ids].numpy()
    return arrays


def describe(split: Split) -> dict[str, Any]:
    """Return sizes and checksum of a split."""
    sizes = {name: len(ids) for name, ids in split.parts().items()}
    return {
        "protocol": split.protocol,
        "sizes": sizes,
        "checksum": split.checksum(),
    }
