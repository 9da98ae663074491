"""Read what `HybridBlock.export` and MXNet's module checkpoints wrote: a graph and its tensors.

NAME-0000.params    the tensors, under the names that gluon gave to a net's parameters
NAME-symbol.json    the graph: operators, their settings, and what each is applied to

The names of a model of GluonNLP tell its tensors apart, and the graph tells the number of heads,
the activation and the epsilon. Other names only count layers (``dense0_weight``), as those of a
hybrid version of the book's net: what they are is told by the order in which the graph applies
them. Its nodes are sorted, each after its inputs, which it visits from the first to the last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from bertnli._util.files import COPY_ANEW, is_there, read_json_object
from bertnli.bert.parameters import infer_config, some
from bertnli.errors import CheckpointError, ConfigError
from bertnli.formats import gluonnlp
from bertnli.formats.checkpoint import DROPOUT, Checkpoint

#: How GluonNLP's parameters are named, after a prefix, to the names in its own files.
ENDS = {
    r"word_embed_embedding\d+_weight": "word_embed.0.weight",
    r"word_embed_embedding\d+_bias": "decoder.3.bias",  # of the layer that shares the weight
    r"token_type_embed_embedding\d+_weight": "token_type_embed.0.weight",
    r"position_weight": "encoder.position_weight",
    r"transformer(\d+)_[a-z]+cell\d+_(query|key|value)_([a-z]+)": r"\1.attention_cell.proj_\2.\3",
    r"transformer(\d+)_proj_([a-z]+)": r"\1.proj.\2",
    r"transformer(\d+)_[a-z]*layernorm\d+_([a-z]+)": r"\1.layer_norm.\2",
    r"transformer(\d+)_[a-z]*ffn\d+_(ffn_[12])_([a-z]+)": r"\1.ffn.\2.\3",
    r"transformer(\d+)_[a-z]*ffn\d+_[a-z]*layernorm\d+_([a-z]+)": r"\1.ffn.layer_norm.\2",
    r"pooler_([a-z]+)": r"pooler.\1",
    r"cls_([a-z]+)": r"classifier.\1",
}
#: Operators to letters, of which `GRAPH` is made. P is any other operator that takes a tensor.
LETTERS = {
    "Embedding": "E",
    "FullyConnected": "D",
    "LayerNorm": "N",
    **dict.fromkeys(("batch_dot", "_npi_matmul"), "M"),
    **dict.fromkeys((f"_contrib_interleaved_matmul_selfatt_{x}" for x in ("qk", "valatt")), "M"),
    **dict.fromkeys(("softmax", "SoftmaxOutput"), "S"),
    **dict.fromkeys(("Activation", "LeakyReLU", "relu", "tanh", "_npi_tanh", "erf"), "A"),
}
#: The order of a block's operators, and of a BERT's. GluonNLP joins the tensors of projections.
_BLOCK = r"(?:DDMSDM|P{6}DMSM)DNDADN"
GRAPH = re.compile(
    r"(?P<embeddings>[EP]{2,3}N?)(?P<blocks>(?:" + _BLOCK + r")+)"
    r"(?P<heads>(?:DAND)?(?P<pair>DAD?)?(?:DAND)?S?)"
)
#: Canonical names of a block's layers in this order; None for operators without tensors.
BLOCK = (
    *("attention.W_q", "attention.W_k", None, None, "attention.W_v", None, "attention.W_o"),
    *("addnorm1.ln", "ffn.dense1", None, "ffn.dense2", "addnorm2.ln"),
)
#: Operators of activations to those of `BERTConfig`.
ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "erf": "gelu", "tanh": "tanh"}
_CASTS = ("Cast", "amp_cast")
#: Operators between layers that change no number, but the sums.
_PLAIN = re.compile(
    r"(?i)_?(np_|npi_|npx_|broadcast_|elemwise_)?_?(add|plus|dropout|(amp_)?cast|copy|reshape|"
    r"reshape_like|transpose|swapaxes|expand_dims|squeeze|slice|slice_axis|sequence_?mask|gather_nd)"
)


class _Node(NamedTuple):
    """A node of a graph: its operator, its settings, the numbers of its inputs.

    In ``steps`` it also has a letter, and the names of the tensors that it takes. The node of a
    tensor or of an input has its name in the place of an operator, after ``null``.
    """

    number: int
    op: str
    settings: Mapping[str, str]
    inputs: tuple[int, ...]
    letter: str = ""
    tensors: tuple[str, ...] = ()


def match(file: Path, stored: Mapping[str, NDArray]) -> bool:
    """Return whether the tensors ``stored`` in a file have names that gluon gives parameters."""
    return any(re.search(r"\d_(weight|gamma)$", name) for name in stored)


def read(file: Path, stored: Mapping[str, NDArray]) -> Checkpoint:
    """Make a checkpoint of the tensors ``stored`` in a file, and of the graph beside it.

    Without the graph it is read if the names tell the tensors apart, with GluonNLP's settings.
    """
    path = file.with_name(re.sub(r"(-\d+)?\.params$", "", file.name) + "-symbol.json")
    nodes, names = _read_nodes(path) if is_there(path) else [], _gluonnlp_names(stored)
    if len({*names.values()}) < len(names):
        raise CheckpointError(f"{file}: of its tensors several have the same place in a BERT")
    if not names and not nodes:
        raise CheckpointError(
            f"{file} holds the tensors of an exported net, {some([*stored], 3)}; what they are is "
            f"in its graph: put {path.name} beside it, or save the net with save_parameters"
        )
    if names:
        kinds = (kind for kind in ("roberta", "distilbert") if f"{kind}model" in " ".join(stored))
        renamed = {names[name]: array for name, array in stored.items()}
        checkpoint = gluonnlp.read(file, renamed, next(kinds, ""))
    if not nodes:
        return checkpoint
    steps = _steps(nodes, stored)
    found = GRAPH.fullmatch("".join(step.letter for step in steps))
    if found is None:
        raise CheckpointError(
            f"{path} is not the graph of a BERT with its heads, as GluonNLP's models and the "
            "book's have it: its operators, or their order, are others"
        )
    try:
        _check_wiring(nodes, steps, found)
        if not names:
            arrays = _in_order(stored, nodes, steps, found)
            config = infer_config(arrays, 1, DROPOUT, str(file))
            config = replace(config, embedding_norm="N" in found["embeddings"])
            checkpoint = Checkpoint(arrays, config, format="exported net", heads_known=False)
        values = _settings(nodes, steps, found, checkpoint.config.num_hiddens)
        of_mlm = values.pop("of_mlm", values["activation"])
        config = replace(checkpoint.config, **values)
    except (ValueError, LookupError, OverflowError, ConfigError) as error:
        raise CheckpointError(f"{path}: no BERT that is computed here: {error}") from error
    heads_known = checkpoint.heads_known or "num_heads" in values
    arrays = dict(checkpoint.arrays)
    if of_mlm != config.activation:  # a head that is not computed here
        arrays = {name: array for name, array in arrays.items() if not name.startswith("mlm.")}
    return replace(checkpoint, arrays=arrays, config=config, heads_known=heads_known)


def _gluonnlp_names(stored: Mapping[str, NDArray]) -> dict[str, str]:
    """Return the names of an export's tensors to those in GluonNLP's files; {} for other nets.

    Unknown names stay as they are.
    """
    names, prefixes = {name: name for name in stored}, dict[str, str]()
    for name in stored:
        for end, new in ENDS.items():
            if found := re.search(f"{end}$", name):
                block = "encoder.transformer_cells." if new[0] == "\\" else ""
                names[name] = block + found.expand(new)
                prefixes[names[name]] = name[: found.start()]
    encoder, model = map(prefixes.get, ("encoder.position_weight", "word_embed.0.weight"))
    if encoder is None or model is None:
        return {}
    for name, known in names.items():
        found = re.fullmatch(r"(\w*?)(dense|(?:bert)?layernorm)(\d+)_([a-z]+)", name)
        if found and known == name:
            before, layer, number, leaf = found.groups()
            if layer == "dense":
                new = "decoder.0" if before == model else f"classifier.{number}"
            else:
                new = "encoder.layer_norm" if before == encoder else "decoder.2"
            names[name] = f"{new}.{leaf}"
    return names


def _read_nodes(path: Path) -> list[_Node]:
    """Read the nodes of a graph; CheckpointError if one does not come after its inputs."""
    described, nodes = read_json_object(path, CheckpointError), list[_Node]()
    try:
        for number, node in enumerate(described["nodes"]):
            inputs = tuple(entry[0] for entry in node["inputs"])
            if not all(isinstance(i, int) and 0 <= i < number for i in inputs):
                raise ValueError(f"node {number} does not come after its inputs")
            settings = node.get("attrs") or node.get("param") or {}
            op = f"null {node['name']}" if node["op"] == "null" else str(node["op"])
            nodes.append(_Node(number, op, {k: str(v) for k, v in settings.items()}, inputs))
        if not nodes:
            raise ValueError("it has no nodes")
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{path} is no graph of MXNet: {error}. {COPY_ANEW}") from error
    return nodes


def _steps(nodes: Sequence[_Node], stored: Mapping[str, NDArray]) -> list[_Node]:
    """Return the nodes that take tensors, or whose operator is in `LETTERS`."""
    steps, tensors = [], dict[int, str]()
    for node in nodes:
        taken = tuple(tensors[i] for i in node.inputs if i in tensors)
        if node.op.startswith("null ") and node.op[5:] in stored:
            tensors[node.number] = node.op[5:]
        elif taken and node.op in _CASTS:
            tensors[node.number] = taken[0]
        elif taken or node.op in LETTERS:
            steps.append(node._replace(letter=LETTERS.get(node.op, "P"), tensors=taken))
    return steps


def _source(nodes: Sequence[_Node], number: int) -> int:
    """Return the number of the node whose numbers a node has, perhaps in another dtype."""
    node = nodes[number]
    return node.inputs[0] if node.op in _CASTS else number


def _check_wiring(nodes: Sequence[_Node], steps: Sequence[_Node], found: re.Match[str]) -> None:
    """Raise ValueError unless sums alone are between the layers, and each is normalised."""
    numbers, seen = {step.number for step in steps if step.letter != "P"}, set[int]()
    positions = {f"null {name}" for step in steps if step.letter == "P" for name in step.tensors}
    for before, step in pairwise(steps):
        pending = [step.inputs[0]] if step.letter in "DN" and before.letter != "A" else []
        while pending:
            node = nodes[pending.pop()]
            if node.number in numbers or node.number in seen:
                continue
            seen.add(node.number)
            begin = node.settings.get("begin", "")
            is_known = node.op in positions or _PLAIN.fullmatch(node.op)
            if not is_known or re.search("[1-9]", begin):
                raise ValueError(
                    f"{node.op:.80}{begin and ' from ' + begin:.80} is between its layers"
                )
            pending += node.inputs if re.search("add|plus", node.op) else node.inputs[:1]
    for block in re.compile(_BLOCK).finditer(found.string, *found.span("blocks")):
        dense, norm = block.start() + block[0].index("D"), block.start() + block[0].index("N")
        for first, last in ((dense, norm), (norm + 1, norm + 4)):
            added = nodes[_source(nodes, steps[last].inputs[0])].inputs
            source = _source(nodes, steps[first].inputs[0])
            if source not in [_source(nodes, i) for i in added]:
                raise ValueError("what is normalised is not the sum of a layer's input and output")


def _in_order(
    stored: Mapping[str, NDArray],
    nodes: Sequence[_Node],
    steps: Sequence[_Node],
    found: re.Match[str],
) -> dict[str, NDArray]:
    """Return the tensors by canonical name, told apart by their order in the graph.

    Raises:
        ValueError: a tensor has no place, or two have the same.
    """
    layers: list[str | None] = []
    for step in steps[: len(found["embeddings"])]:
        layer = "ln" if step.letter == "N" else "pos_embedding"
        of_inputs = step.letter == "E" and nodes[_source(nodes, step.inputs[0])].op
        if of_inputs and of_inputs.startswith("null "):  # the graph counts positions itself
            is_short = any(stored[name].shape[:1] in ((1,), (2,)) for name in step.tensors)
            layer = "segment_embedding" if is_short else "token_embedding"
        layers.append(f"encoder.{layer}")
    for i in range(found["blocks"].count("S")):
        layers += [name and f"encoder.blks.{i}.{name}" for name in BLOCK]
    output = "nsp.output" if "DAND" in found["heads"] else "output"
    for head in re.findall("DAND|DAD?|S", found["heads"]):
        pair = ["hidden", None, output][: len(head)]
        mlm = ["mlm.dense", None, "mlm.ln", "mlm.decoder"]
        layers += mlm if head == "DAND" else pair if head[0] == "D" else [None]
    arrays: dict[str, NDArray] = {}
    for step, name in zip(steps, layers, strict=True):
        for tensor, leaf in zip(step.tensors, ("weight", "bias", ""), strict=False):
            new = name if name == "encoder.pos_embedding" else f"{name}.{leaf}"
            if name is None or new in arrays:
                raise ValueError(f"{tensor} has no place in it")
            arrays[new] = stored[tensor]
    if unused := sorted({*stored} - {tensor for step in steps for tensor in step.tensors}):
        raise ValueError(f"it does not use {some(unused)}")
    if "encoder.pos_embedding" in arrays and arrays["encoder.pos_embedding"].ndim == 2:
        arrays["encoder.pos_embedding"] = arrays["encoder.pos_embedding"][None]
    return arrays


def _settings(
    nodes: Sequence[_Node], steps: Sequence[_Node], found: re.Match[str], width: int
) -> dict[str, Any]:
    """Return what the graph tells of `BERTConfig`'s fields, and ``of_mlm``, that head's activation.

    Raises:
        ValueError: the layers differ, or compute something that no BERT does.
    """
    letters, end = found.string, found.end("blocks")
    acts = {i: _activation(nodes, steps[i]) for i in range(len(steps)) if letters[i] == "A"}
    each: dict[str, set[Any]] = {
        "activation": {act for i, act in acts.items() if i < end},
        "norm_eps": {float(s.settings.get("eps", 1e-5)) for s in steps if s.letter == "N"},
        "num_heads": {
            _heads(nodes, steps[i - 3 : i + 1], width) for i in range(end) if letters[i] == "S"
        },
    }
    differ = [f"{name} is {some([*values])}" for name, values in each.items() if len(values) > 1]
    if differ:
        raise ValueError(f"its layers differ: {'; '.join(differ)}")
    values: dict[str, Any] = {name: values.pop() for name, values in each.items()}
    if values["num_heads"] is None:
        del values["num_heads"]
    if found["pair"]:
        values["pooler_activation"] = acts[found.start("pair") + 1]
    if "DAND" in found["heads"]:
        values["of_mlm"] = acts[letters.index("DAND", end) + 1]
    return values


def _activation(nodes: Sequence[_Node], step: _Node) -> str:
    name = step.settings.get("act_type", step.op.rpartition("_")[2])
    if name not in ACTIVATIONS:
        raise ValueError(f"its activation is {name!r:.80}, none of {sorted({*ACTIVATIONS})}")
    # In the approximation of GELU, the tanh is of a sum with this multiple of a cube.
    before = nodes[max(0, step.number - 8) : step.number]
    if name == "tanh" and any(n.settings.get("scalar", "").startswith("0.04471") for n in before):
        return "gelu_tanh"
    return ACTIVATIONS[name]


def _heads(nodes: Sequence[_Node], steps: Sequence[_Node], width: int) -> int | None:
    """Return a block's number of heads; None if the graph does not tell it.

    Args:
        nodes: the graph.
        steps: the four up to the softmax of attention scores.
        width: num_hiddens.

    Raises:
        ValueError: scores are not divided by the square root of a head's width.
    """
    first, *_, product, softmax = steps
    if "heads" in product.settings:  # and so divided
        return int(product.settings["heads"])
    told, shapes, is_divided = set(), set(), False
    for node in nodes[first.number : softmax.number]:
        is_divided = is_divided or node.op == "_contrib_div_sqrt_dim"
        scalar = re.fullmatch(r"_(?:npi_)?(?:true_)?(div|divide|mul|multiply)_scalar", node.op)
        value = abs(float(node.settings.get("scalar", 0))) if scalar else 0.0
        if scalar and value:
            square = value**2 if scalar[1][0] == "d" else value**-2
            if 1 < square <= width and abs(square - round(square)) < 1e-4 * square:
                told.add(width // round(square))
        shape = node.settings.get("shape") or node.settings.get("newshape", "")
        sizes = [*map(int, re.findall(r"-?\d{1,9}", shape))]
        positive = [size for size in sizes if size > 0]
        shapes |= {*positive} if len(sizes) == 4 and len(positive) == 1 else set()
    if not told and not is_divided:
        raise ValueError("attention scores are not divided by the square root of a head's width")
    known = told | shapes
    return known.pop() if len(known) == 1 else None
