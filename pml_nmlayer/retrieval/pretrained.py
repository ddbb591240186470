"""A folded head on disk: config.json beside a safetensors file."""

import hashlib
import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

import pml_nmlayer

from ..runtime.atomic import atomic_write
from .head_layers import build, code_length, describe, flatten

_FORMAT = "pml_nmlayer head 1"
CONVENTION = "bit 1 where output >= 0; eight bits a byte, first bit highest"


def save_head(folder: Path, head: nn.Module, bits: int | None, trunk: str) -> None:
    """Write a head; a crash leaves the old one or the new one, each whole.

    The weights get a name that depends on them, and the config, which is renamed into
    place last, says which weights are meant.

    Args:
        folder: made if it is missing.
        head: what `fold` makes, or Linear, Tanh, ReLU and Identity in Sequentials.
        bits: code length.
        trunk: checksum of the trunk that the head was trained with.

    Raises:
        ValueError: a layer of another kind.
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
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / str(config["weights"]), content)
    atomic_write(folder / "config.json", json.dumps(config, indent=1).encode())
    for file in folder.glob("head-*.safetensors"):
        if file.name != config["weights"]:
            file.unlink()


def load_head(folder: Path, trunk: str | None) -> nn.Module:
    """Read a head back.

    Args:
        folder: where `save_head` wrote it.
        trunk: checksum of the trunk to be used; None skips the comparison.

    Raises:
        ValueError: what is there is not a head of this package, is damaged, or belongs to
            another trunk; the message names what differs.
        ImportError: safetensors is not installed.
    """
    file = folder / "config.json"
    if not file.exists():
        raise ValueError(f"{folder} has no config.json; save_pretrained writes one")
    config = _read_config(file)
    content = (folder / config["weights"]).read_bytes()
    wanted = {"weights_sha256": hashlib.sha256(content).hexdigest()}
    if trunk is not None:
        wanted["trunk_sha256"] = trunk
    for name, value in wanted.items():
        if config[name] != value:
            raise ValueError(
                f"{file} was saved with {name} {config[name]}, here it is {value}: "
                + ("another trunk" if name == "trunk_sha256" else "damaged weights")
            )
    head = nn.Sequential(*(build(description) for description in config["layers"]))
    _load_tensors(head, _safetensors().load(content), file)
    if code_length(head) != config["bits"]:
        raise ValueError(
            f"{file} promises {config['bits']} bits, its layers give {code_length(head)}"
        )
    return head[0] if len(head) == 1 else head


def _read_config(file: Path) -> dict[str, Any]:
    needed = {"bits", "layers", "weights", "weights_sha256", "trunk_sha256"}
    try:
        config = json.loads(file.read_text())
        missing = needed - config.keys()
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{file} is not a config of a head: {error}") from error
    for name, value in (("format", _FORMAT), ("convention", CONVENTION)):
        if config.get(name) != value:
            raise ValueError(
                f"{file} has {name} {config.get(name)!r}, this version reads {value!r}"
            )
    if missing:
        raise ValueError(f"{file} lacks {sorted(missing)}")
    return config


def _named_tensors(layers: list[nn.Module]) -> dict[str, Tensor]:
    return {
        f"{i}.{name}": value.detach().cpu().contiguous()
        for i, layer in enumerate(layers)
        for name, value in layer.state_dict().items()
    }


def _load_tensors(head: nn.Module, tensors: dict[str, Tensor], file: Path) -> None:
    dtypes = {tensor.dtype for tensor in tensors.values()}
    if len(dtypes) == 1:
        head.to(dtypes.pop())
    try:
        head.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise ValueError(f"the weights do not fit the layers of {file}: {error}") from error


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError(
            "saved heads need safetensors: pip install pml-nmlayer[pretrained]"
        ) from error
    return safetensors.torch
