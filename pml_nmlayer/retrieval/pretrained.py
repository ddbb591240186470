"""A folded head on disk: config.json beside a safetensors file."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import pml_nmlayer

from ..runtime.atomic import atomic_write
from ..runtime.locks import one_at_a_time
from .head_layers import build, code_length, count_numbers, describe, flatten

_FORMAT = "pml_nmlayer head 1"
CONVENTION = "bit 1 where output >= 0; eight bits a byte, first bit highest"
_WEIGHTS = re.compile(r"head-[0-9a-f]{16}\.safetensors")
_CHECK = "config_sha256"  # files of version 0.1.0 have none
_HEADER = 2**20  # more than a safetensors file of a head spends on names
_TRIES = 5


def save_head(folder: Path, head: nn.Module, bits: int | None, trunk: str) -> None:
    """Write a head; a crash leaves the old one or the new one, each whole.

    The weights get a name that depends on them, and the config, which is renamed into
    place last, says which weights are meant. Processes and threads that save to one folder
    wait for each other, and the last one wins.

    Args:
        folder: made if it is missing.
        head: what `fold` makes, or Linear, Tanh, ReLU and Identity in Sequentials.
        bits: code length.
        trunk: checksum of the trunk that the head was trained with.

    Raises:
        ValueError: a layer of another kind.
        NotADirectoryError: a file has the name of the folder.
        ImportError: safetensors is not installed.
    """
    layers = flatten(head)
    content = _safetensors().save(_named_tensors(layers))
    digest = hashlib.sha256(content).hexdigest()
    config = {
        "format": _FORMAT,
        "package_version": pml_nmlayer.__version__,
        "convention": CONVENTION,
        "bits": bits,
        "layers": [describe(layer) for layer in layers],
        "weights": f"head-{digest[:16]}.safetensors",
        "weights_sha256": digest,
        "trunk_sha256": trunk,
    }
    config[_CHECK] = _digest(config)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; save_pretrained needs a folder")
    folder.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(folder) as alone:
        atomic_write(folder / str(config["weights"]), content)
        atomic_write(folder / "config.json", json.dumps(config, indent=1).encode())
        for file in folder.glob("head-*.safetensors") if alone else ():
            if file.name != config["weights"] and _WEIGHTS.fullmatch(file.name):
                file.unlink()


def load_head(folder: Path, trunk: str | None) -> nn.Module:
    """Read a head back.

    Nothing is built before its size was compared with that of the weights.

    Args:
        folder: where `save_head` wrote it.
        trunk: checksum of the trunk to be used; None skips the comparison.

    Raises:
        ValueError: what is there is not a head of this package, is damaged, or belongs to
            another trunk; the message names what differs.
        FileNotFoundError: the weights are missing.
        ImportError: safetensors is not installed.
    """
    file = folder / "config.json"
    config, content = _read_both(folder, file)
    wanted = {"weights_sha256": hashlib.sha256(content).hexdigest()}
    if trunk is not None:
        wanted["trunk_sha256"] = trunk
    for name, value in wanted.items():
        if config[name] != value:
            raise ValueError(
                f"{file} was saved with {name} {config[name]}, here it is {value}: "
                + ("another trunk" if name == "trunk_sha256" else "damaged weights")
            )
    with torch.device("meta"):  # takes no memory
        head = nn.Sequential(*(build(description) for description in config["layers"]))
    _load_tensors(head, content, file)
    if code_length(head) != config["bits"]:
        raise ValueError(
            f"{file} promises {config['bits']} bits, its layers give {code_length(head)}"
        )
    if _CHECK in config and config[_CHECK] != _digest(config):
        raise ValueError(f"{file} is damaged, or was changed: its checksum is wrong")
    return head[0] if len(head) == 1 else head


def _read_both(folder: Path, file: Path) -> tuple[dict[str, Any], bytes]:
    """Config and weights; read again if another process saves in between."""
    for tries in range(_TRIES):
        if not file.is_file():
            raise ValueError(f"{folder} has no config.json; save_pretrained writes one")
        config = _read_config(file)
        weights = folder / config["weights"]
        try:
            return config, _read_weights(weights, count_numbers(config["layers"]))
        except FileNotFoundError:
            if tries == _TRIES - 1:
                raise
    raise AssertionError("not reached")


def _read_weights(weights: Path, numbers: int) -> bytes:
    if weights.exists() and not weights.is_file():
        raise ValueError(f"{weights} is no regular file")
    size = weights.stat().st_size
    if not numbers <= size <= _HEADER + 8 * numbers:
        raise ValueError(
            f"{weights} has {size} bytes, which do not fit the layers of its config: they "
            f"have {numbers} parameters (a size mismatch, or damaged)"
        )
    return weights.read_bytes()


def _read_config(file: Path) -> dict[str, Any]:
    needed = {"bits", "layers", "weights", "weights_sha256", "trunk_sha256"}
    try:
        config = json.loads(file.read_text())
        missing = needed - config.keys()
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{file} is not a config of a head: {error}") from error
    for name, value in (("format", _FORMAT), ("convention", CONVENTION)):
        if config.get(name) != value:
            raise ValueError(
                f"{file} has {name} {config.get(name)!r}, this version reads {value!r}"
            )
    if missing:
        raise ValueError(f"{file} lacks {sorted(missing)}")
    if not isinstance(config["layers"], list):
        raise ValueError(f"{file} is not a config of a head: it has no list of layers")
    name = config["weights"]
    if not isinstance(name, str) or not _WEIGHTS.fullmatch(name):
        raise ValueError(
            f"{file} names the weights {name!r}; save_head writes head-<16 digits>"
            ".safetensors, in the same folder"
        )
    return config


def _digest(config: dict[str, Any]) -> str:
    plain = {name: value for name, value in config.items() if name != _CHECK}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _named_tensors(layers: list[nn.Module]) -> dict[str, Tensor]:
    return {
        f"{i}.{name}": value.detach().cpu().contiguous()
        for i, layer in enumerate(layers)
        for name, value in layer.state_dict().items()
    }


def _load_tensors(head: nn.Module, content: bytes, file: Path) -> None:
    try:
        tensors = {
            name: tensor.clone() for name, tensor in _safetensors().load(content).items()
        }
        wrong = {t.dtype for t in tensors.values() if not t.is_floating_point()}
        if wrong:
            raise ValueError(f"weights are real numbers, got {wrong}")
        head.load_state_dict(tensors, strict=True, assign=True)
    except Exception as error:  # safetensors has errors of its own
        raise ValueError(f"the weights do not fit the layers of {file}: {error}") from error


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError(
            "saved heads need safetensors: pip install pml-nmlayer[pretrained]"
        ) from error
    return safetensors.torch
