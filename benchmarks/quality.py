"""Quality suites: from a suite to specs, and from a spec to codes."""

import random
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pml_nmlayer.codes import pack_codes

from .datasets import Purpose, Split, load_split
from .interface import METHODS, Problem, Unsuited
from .results import Arrays, Record, Spec
from .suites import Entry, QualitySuite


def plan(suite: QualitySuite) -> list[Spec]:
    """List the specs of a report: every method at every length with every seed."""
    return [
        spec_of(suite, entry, bits, seed)
        for seed in suite.seeds
        for entry in suite.entries
        for bits in suite.bits
    ]


def spec_of(suite: QualitySuite, entry: Entry, bits: int, seed: int) -> Spec:
    """Spell out one run of a report. Fixed options win over tuned ones."""
    return make_spec(suite, entry, bits, seed, tuned_settings(suite, entry))


def tuned_settings(suite: QualitySuite, entry: Entry) -> dict[str, Any]:
    """Look up what tuning chose; nothing if the suite was never tuned.

    Raises:
        ValueError: the suite was tuned, but not this method.
    """
    if suite.tuned is None:
        return {}
    try:
        return suite.tuned.settings[entry.name]
    except KeyError:
        which = f" --dataset {suite.dataset}" if suite.one_of_several else ""
        raise ValueError(
            f"{suite.tuned.source} has no settings of {entry.name}; run "
            f"`python -m benchmarks tune --suite {suite.name}{which} "
            f"--methods {entry.name}`"
        ) from None


def make_spec(
    suite: QualitySuite,
    entry: Entry,
    bits: int,
    seed: int,
    settings: dict[str, Any],
    purpose: Purpose = "report",
) -> Spec:
    """Spell out one run, all options included: the spec alone says what is run."""
    return {
        "kind": "quality",
        "suite": suite.name if purpose == "report" else f"{suite.name}-tune",
        "purpose": purpose,
        **suite.recipe,
        "method": entry.method,
        "settings": METHODS[entry.method].settings({**settings, **entry.options}),
        "bits": bits,
        "seed": seed,
    }


def execute(spec: Spec, root: Path | None = None) -> tuple[Record, Arrays]:
    """Train one method and encode queries and database.

    Args:
        spec: see `make_spec`.
        root: the data folder; None for that of the environment.

    Returns:
        What was measured, as plain JSON, and the arrays that metrics are computed from. Of
        a method that does not suit the data set: its reason, as `refused`, and no arrays.
    """
    split = load_split(spec["dataset"], spec["seed"], spec["purpose"], root)
    try:
        return _measure(spec, split)
    except Unsuited as error:
        return {"refused": str(error), "split": describe(split)}, {}


def _measure(spec: Spec, split: Split) -> tuple[Record, Arrays]:
    if not isinstance(split.features, Tensor):
        raise ValueError(
            f"{spec['dataset']} holds images; write features of them first, by `python -m "
            f"benchmarks extract --dataset {spec['dataset']} --trunk NAME --out FILE.npz`, "
            "and name features:FILE.npz in the suite"
        )
    problem = Problem(
        in_features=split.features.shape[1],
        num_classes=split.num_classes,
        bits=spec["bits"],
        epochs=spec["epochs"],
        decay=spec["decay"],
        batch_size=spec["batch_size"],
        multi_label=split.multi_label,
    )
    _warm_up()
    seed_everything(spec["seed"])
    start = time.perf_counter()
    method = METHODS[spec["method"]].factory(problem, **spec["settings"])
    method.fit(split.features[split.train], split.labels[split.train])
    train_s = time.perf_counter() - start

    items = {
        name: _stored(name, values, len(split.features), spec["bits"])
        for name, values in method.encode(split.features).items()
    }
    training, serving = method.head_parameters()
    record = {
        "train_s": train_s,
        "head_parameters": {"training": training, "serving": serving},
        "split": describe(split),
    }
    return record, raw_arrays(split, items)


def _stored(encoding: str, values: Tensor, count: int, bits: int) -> np.ndarray:
    """Check what a method made of all items, and pack codes."""
    if encoding == "float":
        return values.float().numpy()
    if values.shape != (count, bits):
        raise ValueError(f"asked for {bits} bits, got codes {tuple(values.shape)}")
    return pack_codes(values).numpy()


@lru_cache(maxsize=1)
def _warm_up() -> None:
    """Let torch import what its first optimizer needs: it is no part of a training."""
    weight = torch.ones(1, requires_grad=True)
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
    return arrays


def describe(split: Split) -> dict[str, Any]:
    """Return sizes and checksum of a split."""
    sizes = {name: len(ids) for name, ids in split.parts().items()}
    return {
        "protocol": split.protocol,
        "sizes": sizes,
        "checksum": split.checksum(),
    }


def seed_everything(seed: int) -> None:
    """Seed every generator that a loss, a miner or an initialisation may draw from."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (PML draws from the global generator)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
