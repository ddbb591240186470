"""From the spec of a quality suite to codes: train one method, encode, measure."""

import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from pml_nmlayer.codes import pack_codes

from ..datasets import Split, load_split
from ..interface import ENCODINGS, NEIGHBOURS, Encoded, Pair, Problem, Unsuited
from ..methods import METHODS
from ..results import Arrays, Record, Spec, Store
from ..training.pictures import Pictures
from ..training.seeding import seed_everything
from .devices import Machine, describe_device, wait_for
from .inputs import Inputs, open_inputs
from .usage import peak_mib, reset_peak

_THIS = Machine()
_OF_A_TRUNK = ("images_per_s", "peak_mib", "accuracy")  # what a record may tell of it


def execute(
    spec: Spec,
    root: Path | None = None,
    machine: Machine = _THIS,
    store: Store | None = None,
) -> tuple[Record, Arrays]:
    """Train one method and encode queries and database.

    Args:
        spec: see `specs.make_spec`.
        root: the data folder; None for that of the environment.
        machine: where networks are trained.
        store: where embeddings lie, for a method behind one.

    Returns:
        What was measured, as plain JSON, and the arrays that metrics are computed from. Of
        a method that does not suit the data set: its reason, as `refused`, and no arrays.
    """
    _check_source(spec)
    split = _split(spec, root)
    try:
        return _measure(spec, split, machine, store)
    except Unsuited as error:
        return {"refused": str(error), "split": describe(split)}, {}


def execute_embedding(
    spec: Spec, root: Path | None = None, machine: Machine = _THIS
) -> tuple[Record, Arrays]:
    """Train the network that methods stand behind, and embed all items once.

    Args:
        spec: see `specs.embedding_spec`.
        root: the data folder; None for that of the environment.
        machine: where the network is trained.
    """
    _check_source(spec)
    split = _split(spec, root)
    inputs = open_inputs(spec, split.features, machine)
    labels, _ = _training_labels(split)
    problem = _problem(spec, split, inputs, machine)
    _begin(spec, machine)
    start = time.perf_counter()
    method: Any = METHODS[spec["method"]].factory(problem, **spec["settings"])
    items: Any = inputs.items
    method.train(items[split.train], labels)
    wait_for(machine.device)
    train_s = time.perf_counter() - start
    vectors = method.embedding(items)
    record = {
        "train_s": train_s,
        **_usage(spec, items, split, machine, train_s),
        **_accuracy(method, items, split),
        "split": describe(split),
        "device": describe_device(machine.device),
        "inputs": inputs.about,
    }
    return record, {"embeddings": vectors.half().numpy()}


def _behind(spec: Spec, store: Store | None) -> tuple[Inputs, Record]:
    """Open the vectors that an earlier run left, and what it told of itself."""
    other = spec["behind"]
    if store is None or not store.has_result(other):
        why = "" if store is None else (store.load(other) or {}).get("error", "")
        raise ValueError(
            f"{spec['method']} is given the embedding of {other['method']}, which has no "
            f"result; run it first {why}"
        )
    record = store.load(other)
    assert record is not None
    found = store.load_arrays(other, ("embeddings",))["embeddings"]
    vectors = torch.from_numpy(found.astype(np.float32))
    return Inputs(vectors, {"in_features": vectors.shape[1]}, record["inputs"]), record


def _split(spec: Spec, root: Path | None) -> Split:
    most = spec.get("most_items")
    return load_split(spec["dataset"], spec["seed"], spec["purpose"], root, most)


def _problem(spec: Spec, split: Split, inputs: Inputs, machine: Machine) -> Problem:
    return Problem(
        num_classes=_training_labels(split)[1],
        bits=spec["bits"],
        epochs=spec["epochs"],
        decay=spec["decay"],
        batch_size=spec["batch_size"],
        multi_label=split.multi_label,
        device=machine.device,
        **inputs.problem,
    )


def _begin(spec: Spec, machine: Machine) -> None:
    _warm_up(machine.device)
    seed_everything(spec["seed"], machine.device)
    reset_peak(machine.device)


def _usage(
    spec: Spec, items: Any, split: Split, machine: Machine, train_s: float
) -> Record:
    """Tell how fast a trunk learned, and how much memory that took."""
    if not isinstance(items, Pictures):
        return {}
    steps = len(split.train) // spec["batch_size"] * spec["epochs"]
    per_s = steps * spec["batch_size"] / train_s
    return {"images_per_s": per_s, "peak_mib": peak_mib(machine.device)}


def _accuracy(method: Any, items: Any, split: Split) -> Record:
    """Tell how often a classifier names the class of a query that it has trained on."""
    predicted = getattr(method, "predicted", None)
    if predicted is None or split.multi_label:
        return {}
    classes = split.labels[split.train].unique()
    asked = split.queries[torch.isin(split.labels[split.queries], classes)]
    if not len(asked):
        return {}
    right = classes[predicted(items[asked])] == split.labels[asked]
    return {"accuracy": right.float().mean().item()}


def _check_source(spec: Spec) -> None:
    found, wanted = METHODS[spec["method"]].source, spec.get("source")
    if found != wanted:
        raise ValueError(
            f"the run is of method {spec['method']} as {wanted} has it, but the one that "
            f"is loaded is of {found}; start the command again"
        )


def _measure(
    spec: Spec, split: Split, machine: Machine, store: Store | None
) -> tuple[Record, Arrays]:
    earlier: Record = {}
    if "behind" in spec:
        inputs, earlier = _behind(spec, store)
    else:
        inputs = open_inputs(spec, split.features, machine)
    labels, _ = _training_labels(split)
    problem = _problem(spec, split, inputs, machine)
    _begin(spec, machine)
    start = time.perf_counter()
    method = METHODS[spec["method"]].factory(problem, **spec["settings"])
    if earlier and not getattr(method, "on_features", False):
        raise ValueError(f"{spec['method']} trains a network and stands behind none")
    train_s = time.perf_counter() - start
    # features of an untrained trunk are made once for many methods, and are no one's time
    items: Any = inputs.of(method)
    more: dict[str, Any] = {}
    if getattr(method, "uses_database", False):
        more = {"database": items[split.database]}
    start = time.perf_counter()
    method.fit(items[split.train], labels, **more)
    wait_for(machine.device)
    train_s += time.perf_counter() - start
    usage = _usage(spec, items, split, machine, train_s)

    found = method.encode(items)
    own: Mapping[str, Encoded] = {}
    if split.search_training:
        own = getattr(method, "encode_training", dict)()
    arrays = stored_arrays(split, found, spec["bits"], own)
    training, serving = method.head_parameters()
    if not getattr(method, "on_features", False):  # these have no trunk to stand on
        _check_budget(spec, training)
    record = {
        "train_s": train_s + earlier.get("train_s", 0.0),
        **{name: earlier[name] for name in _OF_A_TRUNK if name in earlier},
        **usage,
        **_accuracy(method, items, split),
        "head_parameters": {"training": training, "serving": serving},
        "split": describe(split),
        "device": describe_device(machine.device),
        "inputs": inputs.about,
    }
    return record, {**arrays, **_diagnostics(method)}


def _training_labels(split: Split) -> tuple[Any, int]:
    """Give a method the labels of its training items, numbered without gaps."""
    if not split.labelled:
        return None, 0
    labels = split.labels[split.train]
    if split.multi_label:
        return labels, labels.shape[1]
    classes, numbers = labels.unique(return_inverse=True)
    return numbers, len(classes)


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


def stored_arrays(
    split: Split, found: Mapping[str, Encoded], bits: int, training: Mapping[str, Encoded]
) -> Arrays:
    """Keep what metrics may see, and the ids by which the split can be checked.

    Args:
        split: who is query, and who is in the database.
        found: what a method made of all items, see `Method.encode`.
        bits: that were asked for.
        training: how training items are stored, where it is not as others are.
    """
    arrays = {f"{name}_ids": ids.numpy() for name, ids in split.parts().items()}
    parts = {"query": split.queries, "database": split.database}
    if split.search_training:
        parts["training"] = split.train
    for part, ids in parts.items():
        arrays[f"{part}_labels"] = split.labels[ids].numpy()
        if split.coarse_labels is not None:
            arrays[f"{part}_coarse_labels"] = split.coarse_labels[ids].numpy()
        for name, values in found.items():
            if part == "training" and name in training:
                side = _side(name, training[name], len(ids), bits, part)
            else:
                side = _side(name, values, len(split.features), bits, part)
                side = None if side is None else side[ids]
            if side is not None:
                arrays[f"{part}_{name}"] = side.numpy()
    for name, values in found.items():
        if isinstance(values, Pair):
            if values.bits is not None:
                arrays[f"stored_bits_{name}"] = np.array(values.bits)
        elif name not in ENCODINGS:
            arrays[f"bits_{name}"] = np.array(values.shape[1])
    if split.mixed:
        known = split.labels[split.train].unique()
        unseen = ~torch.isin(split.labels[split.queries], known)
        arrays["query_is_unseen"] = unseen.numpy()
    if not split.labelled:
        arrays["query_neighbours"] = _neighbours(split).numpy()
    return arrays


def _side(
    encoding: str, values: Encoded, count: int, bits: int, part: str
) -> Tensor | None:
    """Check what a method made of all items, pack codes, and pick what a part needs."""
    if isinstance(values, Pair):
        side = values.queries if part == "query" else values.stored
        return None if side is None else side.float()
    if encoding == "float":
        return values.float()
    if encoding in ENCODINGS and values.shape != (count, bits):
        raise ValueError(f"asked for {bits} bits, got codes {tuple(values.shape)}")
    return pack_codes(values)


def _neighbours(split: Split) -> Tensor:
    """Find the items of the database that are nearest to queries by their features."""
    assert isinstance(split.features, Tensor)
    query, database = (
        normalize(split.features[ids]) for ids in (split.queries, split.database)
    )
    count = min(NEIGHBOURS, len(database))
    parts = [(rows @ database.T).topk(count).indices for rows in query.split(256)]
    return torch.cat(parts).int()


def describe(split: Split) -> dict[str, Any]:
    """Return sizes and checksum of a split."""
    sizes = {name: len(ids) for name, ids in split.parts().items()}
    return {
        "protocol": split.protocol,
        "sizes": sizes,
        "checksum": split.checksum(),
    }
