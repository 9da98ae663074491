"""Tensor names: each framework's file names to and from the canonical ones of `parameters`.

The book's two tabs name the same tensor differently: a torch Sequential counts the activation as a
layer, and gluon calls a LayerNorm's scale and shift gamma and beta.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from numpy.typing import NDArray

from bertnli.errors import CheckpointError

_TORCH = {
    "hidden": "hidden.0",
    "mlm.dense": "mlm.mlp.0",
    "mlm.ln": "mlm.mlp.2",
    "mlm.decoder": "mlm.mlp.3",
}
_MXNET = {"mlm.dense": "mlm.mlp.0", "mlm.ln": "mlm.mlp.1", "mlm.decoder": "mlm.mlp.2"}
_FROM_TORCH = {value: key for key, value in _TORCH.items()}
_FROM_MXNET = {value: key for key, value in _MXNET.items()}

#: What PyTorch's wrappers add to names, and what a module may call the net that it holds.
_WRAPPERS, _ATTRIBUTES = {"module", "_orig_mod"}, {"model", "net"}


def to_torch(name: str) -> str:
    """Return the name that a canonical tensor has in the book's torch state dict."""
    return _moved(name, _TORCH)


def from_torch(name: str) -> str:
    """Return the canonical name of a tensor of the book's torch state dict."""
    return _moved(name, _FROM_TORCH)


def to_mxnet(name: str) -> str:
    """Convert a canonical tensor name to the structural name in the book's MXNet file."""
    moved = _moved(name, _MXNET)
    if name.endswith(("ln.weight", "ln.bias")):
        return moved.replace("weight", "gamma").replace("bias", "beta")
    return moved


def from_mxnet(name: str) -> str:
    """Return the canonical name of a tensor of the book's MXNet file."""
    return _moved(without_gamma(name), _FROM_MXNET)


def without_gamma(name: str) -> str:
    """Return a tensor's name with a LayerNorm's gamma and beta called weight and bias."""
    return re.sub(r"\.beta$", ".bias", re.sub(r"\.gamma$", ".weight", name))


def _moved(name: str, layers: Mapping[str, str]) -> str:
    layer, dot, tensor = name.rpartition(".")
    return layers.get(layer, layer) + dot + tensor


def unwrapped(stored: Mapping[str, NDArray], source: str) -> dict[str, NDArray]:
    """Return tensors without what wrappers of PyTorch put into their names.

    These are ``module`` (`DataParallel` and its kin) and ``_orig_mod`` (`torch.compile`), in any
    order, and before all names ``model`` or ``net`` (what a Lightning module calls the net).
    """
    parts = {name: [p for p in name.split(".") if p not in _WRAPPERS] for name in stored}
    first = {each[0] for each in parts.values() if each}
    start = 1 if len(first) == 1 and first <= _ATTRIBUTES else 0
    arrays: dict[str, NDArray] = {}
    for name, array in stored.items():
        plain = ".".join(parts[name][start:])
        if plain in arrays:
            raise CheckpointError(f"{source} holds {plain} twice, with and without a wrapper")
        arrays[plain] = array
    return arrays


def by_template(name: str, table: Mapping[str, str]) -> str:
    """Translate a tensor's name by a table of templates; KeyError if none fits.

    Args:
        name: such as ``encoder.blks.3.ffn.dense1.weight``.
        table: names of tensors, or of layers, for those of all their tensors; ``{}`` in a key and
            in its value is the number of a block.
    """
    number = re.search(r"(?<=\.)\d+(?=\.)", name)
    template = name
    if number is not None:
        template = f"{name[: number.start()]}{{}}{name[number.end() :]}"
    for key in (name, template):
        layer, _, tensor = key.rpartition(".")
        value = table.get(key) or (f"{table[layer]}.{tensor}" if layer in table else "")
        if value:
            return value if number is None else value.replace("{}", number[0], 1)
    raise KeyError(name)


def canonical(
    stored: Mapping[str, NDArray], translate: Callable[[str], str], source: str
) -> dict[str, NDArray]:
    """Return the tensors of a BERT of Devlin et al. under their canonical names.

    A decoder that is tied to the token embedding, either of which may be left out of a file, is
    that embedding. The classes of the next sentence change places: the first is the book's second.

    Args:
        stored: the file's names to tensors.
        translate: returns a canonical name, or raises KeyError.
        source: the file, for messages.
    """
    arrays: dict[str, NDArray] = {}
    unknown = []
    for name, array in stored.items():
        try:
            canonical_name = translate(name)
        except KeyError:
            unknown.append(name)
            continue
        if canonical_name in arrays and arrays[canonical_name].tobytes() != array.tobytes():
            raise CheckpointError(f"{source} holds {name} twice, under two names, and they differ")
        arrays[canonical_name] = array
    if unknown:
        raise CheckpointError(f"{source}: no BERT has the tensors {', '.join(unknown[:5])}")
    positions, table = "encoder.pos_embedding", "encoder.token_embedding.weight"
    if positions in arrays and arrays[positions].ndim == 2:
        arrays[positions] = arrays[positions][None]
    decoder = "mlm.decoder.weight"
    for one, other in ((table, decoder), (decoder, table)):
        if other in arrays:
            arrays.setdefault(one, arrays[other])
    if "mlm.decoder.bias" not in arrays:
        arrays.pop(decoder, None)
    for name in ("nsp.output.weight", "nsp.output.bias"):
        if name in arrays and arrays[name].ndim:
            arrays[name] = arrays[name][::-1]
    return arrays
