"""Names of tensors: those of each format's files, and the canonical ones of `bert.parameters`.

The book's two tabs name a tensor differently: a torch Sequential counts the activation as a layer,
and gluon calls the scale and shift of a LayerNorm gamma and beta.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from numpy.typing import NDArray

from bertnli.bert.parameters import TOKEN_TABLE
from bertnli.errors import CheckpointError

#: Canonical names of layers to those in the book's files.
_TORCH = {
    "hidden": "hidden.0",
    "mlm.dense": "mlm.mlp.0",
    "mlm.ln": "mlm.mlp.2",
    "mlm.decoder": "mlm.mlp.3",
}
_MXNET = {"mlm.dense": "mlm.mlp.0", "mlm.ln": "mlm.mlp.1", "mlm.decoder": "mlm.mlp.2"}
#: What PyTorch's wrappers add to names (DataParallel, `torch.compile`), and the attributes in which
#: a Lightning module usually keeps its net.
_WRAPPERS, _ATTRIBUTES = {"module", "_orig_mod"}, {"model", "net"}


def to_torch(name: str) -> str:
    """Convert a canonical tensor name to the one in the book's torch state dict."""
    return _in_layer(name, _TORCH)


def from_torch(name: str) -> str:
    """Convert a tensor name of the book's torch state dict to the canonical one."""
    return _in_layer(name, {value: key for key, value in _TORCH.items()})


def to_mxnet(name: str) -> str:
    """Convert a canonical tensor name to the structural name in the book's MXNet file."""
    renamed = _in_layer(name, _MXNET)
    if name.endswith(("ln.weight", "ln.bias")):
        return renamed.replace("weight", "gamma").replace("bias", "beta")
    return renamed


def from_mxnet(name: str) -> str:
    """Convert a tensor name of the book's MXNet file to the canonical one."""
    return _in_layer(without_gamma(name), {value: key for key, value in _MXNET.items()})


def without_gamma(name: str) -> str:
    """Replace ``gamma`` and ``beta`` at the end of a tensor name by ``weight`` and ``bias``."""
    return re.sub(r"\.beta$", ".bias", re.sub(r"\.gamma$", ".weight", name))


def _in_layer(name: str, layers: Mapping[str, str]) -> str:
    layer, dot, tensor = name.rpartition(".")
    return layers.get(layer, layer) + dot + tensor


def unwrapped(stored: Mapping[str, NDArray], source: str) -> dict[str, NDArray]:
    """Remove the parts that PyTorch's wrappers add to the names of a file's tensors.

    These are ``module`` and ``_orig_mod`` anywhere in a name, and ``model`` or ``net`` if all names
    begin with it.
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
    """Translate a tensor's name with a table of templates; KeyError if none matches.

    Args:
        name: the name, such as ``encoder.blks.3.ffn.dense1.weight``.
        table: dictionary of a tensor's or layer's name in one format to its name in another format;
            ``{}`` stands for the number of a block.
    """
    number = re.search(r"(?<=\.)\d+(?=\.)", name)
    template = name if number is None else f"{name[: number.start()]}{{}}{name[number.end() :]}"
    for key in (name, template):
        layer, _, tensor = key.rpartition(".")
        value = table.get(key) or (f"{table[layer]}.{tensor}" if layer in table else "")
        if value:
            return value if number is None else value.replace("{}", number[0], 1)
    raise KeyError(name)


def canonical(
    stored: Mapping[str, NDArray], translate: Callable[[str], str | None], source: str
) -> dict[str, NDArray]:
    """Convert the tensors of another library's BERT to canonical names and layouts.

    The token embedding and the MLM decoder share their weight: if a file has one of them, it is
    used for both. The two classes of next-sentence prediction are swapped, since the book has them
    in the other order.

    Args:
        stored: the tensors by name.
        translate: converts a name to the canonical one, or to None for a tensor to leave out; it
            raises KeyError for an unknown one.
        source: path of the tensors' file, for messages.
    """
    arrays: dict[str, NDArray] = {}
    unknown = []
    for name, array in stored.items():
        try:
            new_name = translate(name)
        except KeyError:
            unknown.append(name)
            continue
        if new_name is None:
            continue
        if new_name in arrays and arrays[new_name].tobytes() != array.tobytes():
            raise CheckpointError(f"{source} holds {name} twice, under two names, and they differ")
        arrays[new_name] = array
    if unknown:
        raise CheckpointError(
            f"{source}: no encoder of its kind has the tensors {', '.join(unknown[:5])}"
        )
    positions, table = "encoder.pos_embedding", TOKEN_TABLE
    decoder = "mlm.decoder.weight"
    if positions in arrays and arrays[positions].ndim == 2:
        arrays[positions] = arrays[positions][None]
    if table not in arrays and decoder in arrays:
        arrays[table] = arrays[decoder]
    if "mlm.decoder.bias" not in arrays:
        arrays.pop(decoder, None)
    elif table in arrays:
        arrays.setdefault(decoder, arrays[table])
    for name in ("nsp.output.weight", "nsp.output.bias"):
        if name in arrays and arrays[name].ndim:
            arrays[name] = arrays[name][::-1]
    return arrays
