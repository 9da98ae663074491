"""Small files of models that would take much: weights, settings, vocabularies."""

import io
import json
import struct
import zipfile
from collections.abc import Callable

MB = 1 << 20
#: Makes a file's content.
Content = Callable[[], bytes]


# PyTorch's and MXNet's files


def _zipped(data_pkl, **entries):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("p/data.pkl", data_pkl)
        for name, content in entries.items():
            archive.writestr(f"p/data/{name}", content)
    return buffer.getvalue()


def _int(number):
    raw = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def _tensor(count, sizes, strides):
    """Instructions for a tensor: a number of elements, and instructions for two tuples."""
    storage = b"(U\x07storagectorch\nFloatStorage\nU\x01kU\x03cpu" + _int(count) + b"tQ"
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + sizes + strides + b"\x89}tR"
    )


def _numbers(*values):
    return b"(" + b"".join(map(_int, values)) + b"t"


def _names(count, value):
    """A dictionary of so many names for what instructions make."""
    items = b"".join(b"X" + struct.pack("<I", 6) + b"%06d" % i + value for i in range(count))
    return b"\x80\x02}(" + items + b"u."


def many_sizes(value):
    sizes = _numbers(*[value] * 60_000)
    return _zipped(b"\x80\x02}U\x01a" + _tensor(4, sizes, sizes) + b"s.", k=bytes(16))


def zero_strides(count, legacy=False):
    one = _tensor(4, _numbers(1 << 24), _numbers(0))
    pickle = _names(count, one)
    if not legacy:
        return _zipped(pickle, k=bytes(16))
    start = b"\x80\x02" + _int(0x1950A86A20F9469CFC6C) + b".\x80\x02" + _int(1001) + b".\x80\x02}."
    return start + pickle + b"\x80\x02]U\x01ka." + struct.pack("<q", 4) + bytes(16)


def one_tensor_of_many_names():
    """The tensor is made once, and taken from the memo under each name."""
    made = b"\x80\x02" + _tensor(65536, _numbers(65536), _numbers(1)) + b"q\x000"
    return _zipped(made + _names(20_000, b"h\x00")[2:], k=bytes(1 << 18))


def tied_views():
    return _zipped(_names(6_000, _tensor(65536, _numbers(65536), _numbers(1))), k=bytes(1 << 18))


def deflated_pickle():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("p/data.pkl", bytes(64 * MB))
    return buffer.getvalue()


def declared_member():
    raw = bytearray(_zipped(b"\x80\x02}.", k=bytes(16)))
    place = raw.index(b"PK\1\2")
    raw[place + 20 : place + 28] = b"\xfe\xff\xff\x7f" * 2
    return bytes(raw)


def params(count, name, sizes=(0,)):
    """A .params of arrays in the oldest layout, which is the shortest."""
    shape = struct.pack(f"<I{len(sizes)}I", len(sizes), *sizes)
    array = shape + struct.pack("<3i", 1, 0, 0)
    names = [name(i).encode() for i in range(count)]
    texts = b"".join(struct.pack("<Q", len(text)) + text for text in names)
    head = struct.pack("<3Q", 0x112, 0, count)
    return head + array * count + struct.pack("<Q", count) + texts


def zip_of_many(count, name="{}"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for i in range(count):
            archive.writestr(name.format(i), b"")
    return buffer.getvalue()


# Safetensors


def safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def described(count, shape, size, name="t{}"):
    return {
        name.replace("{}", str(i), 1): {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}
        for i in range(count)
    }


# Vocabularies


SPECIAL = ("[UNK]", "[PAD]", "[MASK]", "[CLS]", "[SEP]")


def definition(vocab=None, **changes):
    """A tokenizer.json of word pieces."""
    ids = {token: i for i, token in enumerate((*SPECIAL, *"abcdefg"))}
    model = {"type": "WordPiece", "unk_token": "[UNK]", "max_input_chars_per_word": 100}
    model |= {"continuing_subword_prefix": "##", "vocab": ids | (vocab or {})}
    model |= changes.pop("model", {})
    steps = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder"))
    return json.dumps(
        {
            "version": "1.0",
            **steps,
            "added_tokens": [added(i, token, special=True) for i, token in enumerate(SPECIAL)],
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "model": model,
            **changes,
        }
    ).encode()


def added(i, content, **changes):
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return {"id": i, "content": content, **flags, **changes}


def replace(content, **pattern):
    return {"type": "Replace", "pattern": pattern, "content": content}


def sequence(*steps, key="normalizers"):
    return {"type": "Sequence", key: list(steps)}


def nested(depth):
    inside = b'{"type": "Sequence", "normalizers": ['
    text = definition(normalizer="HERE")
    return text.replace(b'"HERE"', inside * depth + b'{"type": "NFC"}' + b"]}" * depth)


DEEP = b"[" * 200_000
SIZES = {
    "model_type": "bert",
    "vocab_size": 10**300,
    "hidden_size": 4 * 10**200,
    "intermediate_size": 10**100,
    "num_attention_heads": 4,
    "num_hidden_layers": 10**9,
    "max_position_embeddings": 2**62,
    "hidden_dropout_prob": 10**400,
}
OUR_SIZES = {
    "vocab_size": 12,
    "num_hiddens": 10**400,
    "ffn_num_hiddens": 10**4000,
    "num_heads": 1,
    "num_blks": 10**12,
    "max_len": 10**30,
}
OURS = {"format": "bertnli classifier", "version": 1, "labels": [*"abc"], "model": OUR_SIZES}
PADDING = {
    "strategy": {"Fixed": 10**9},
    "direction": "Right",
    "pad_to_multiple_of": None,
    "pad_id": 0,
    "pad_type_id": 0,
    "pad_token": "[PAD]",
}
DOUBLED = sequence(*[replace("aa", String="a")] * 34)
GROWING = sequence(*[replace("\ufdfa", String="\u0644"), {"type": "NFKD"}] * 9)
SPLIT = {"type": "Split", "pattern": {"Regex": "(a|a)*$"}, "behavior": "Isolated", "invert": False}
#: Kind of model and file of it to cases.
MODELS: dict[tuple[str, str], dict[str, Content]] = {
    ("params", "pretrained.params"): {
        "many of one name": lambda: params(60_000, lambda _: "a"),
        "some of one name": lambda: params(16_000, lambda _: "a"),
        "many names": lambda: params(60_000, str),
        "long sides": lambda: params(10_000, str, (0, *[1 << 31] * 31)),
        "long names": lambda: params(8, lambda i: "encoder.blks." + "1" * 100_000 + f".{i}"),
    },
    ("torch", "pretrained.params"): {
        "many sizes": lambda: many_sizes((1 << 62) + 1),
        "many sizes of one": lambda: many_sizes(1),
        "strides of 0": lambda: zero_strides(60),
        "one stride of 0": lambda: zero_strides(1),
        "a call": lambda: _zipped(b"\x80\x02}U\x01acos\nsystem\n(U\x04truetRs."),
        "an object": lambda: _zipped(b"\x80\x02}U\x01acsubprocess\nPopen\n)\x81}bs."),
        "one tensor of many names": one_tensor_of_many_names,
        "tied views": tied_views,
        "a deflated pickle": deflated_pickle,
        "a member's size": declared_member,
        "many entries": lambda: zip_of_many(8_000, "p/data/{}"),
    },
    ("torch, legacy", "pretrained.params"): {
        "strides of 0": lambda: zero_strides(60, legacy=True),
        "a call": lambda: b"\x80\x02cos\nsystem\n(X\x04\x00\x00\x00truetR.",
    },
    ("params", "vocab.json"): {
        "tokens": lambda: json.dumps([f"t{i}" for i in range(1_200_000)]).encode(),
        "lists": lambda: b"[" + b"[]," * 1_500_000 + b"[]]",
        "deep": lambda: DEEP,
        "a huge number": lambda: b"[" + b"9" * MB + b"]",
    },
    ("hf", "config.json"): {
        "deep": lambda: b'{"model_type": "bert", "x": ' + DEEP,
        "deep objects": lambda: b'{"a":' * 100_000,
        "huge sizes": lambda: json.dumps(SIZES).encode(),
        "lists": lambda: b'{"id2label": [' + b"[]," * MB + b"[]]}",
        "classes": lambda: json.dumps(
            {"model_type": "bert", "id2label": dict.fromkeys(map(str, range(100_000)))}
        ).encode(),
        "long": lambda: b'{"model_type": "' + b"b" * (8 * MB) + b'"}',
    },
    ("hf", "model.safetensors"): {
        "header of 2**64": lambda: b"\xff" * 8 + bytes(64),
        "header of 2 GB": lambda: struct.pack("<Q", 2 << 30) + bytes(64),
        "deep": lambda: safetensors(DEEP),
        "many": lambda: safetensors(described(40_000, [0], 0)),
        "overlap": lambda: safetensors(described(5_000, [65536], 1 << 18), bytes(1 << 18)),
        "no such data": lambda: safetensors(described(1, [1 << 40], 1 << 42)),
        "sizes": lambda: safetensors(described(1, [0] + [1 << 60] * 9_000, 0)),
        "a format for a name": lambda: safetensors(
            described(1, [0], 0, "bert.encoder.layer.{}.output.dense.{0:>99999999}")
        ),
    },
    ("hf, pickled", "pytorch_model.bin"): {"strides of 0": lambda: zero_strides(60)},
    ("hf", "tokenizer.json"): {
        "doubled": lambda: definition(normalizer=DOUBLED),
        "doubled, of an added token": lambda: definition(
            normalizer=DOUBLED, added_tokens=[added(0, "a", normalized=True)]
        ),
        "a long replacement": lambda: definition(
            normalizer=sequence(*[replace("a" * 90_000, String="a")] * 2)
        ),
        "growing forms": lambda: definition(normalizer=GROWING),
        "an expression": lambda: definition(normalizer=replace("b", Regex="(a+)+$")),
        "an empty text": lambda: definition(normalizer=sequence(*[replace("a", String="")] * 30)),
        "split by an expression": lambda: definition(pre_tokenizer=SPLIT),
        "precompiled": lambda: definition(
            normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}
        ),
        "before each": lambda: definition(normalizer={"type": "Prepend", "prepend": "a" * MB}),
        "long words": lambda: definition(model={"max_input_chars_per_word": 10**9}),
        "added": lambda: definition(added_tokens=[added(i, f"[{i}]") for i in range(20_000)]),
        "a long one added": lambda: definition(
            added_tokens=[added(0, "ab" * 200_000, normalized=True)]
        ),
        "nested": lambda: nested(300),
        "deep": lambda: nested(50_000),
        "many steps": lambda: definition(normalizer=sequence(*[{"type": "NFC"}] * 60_000)),
        "gaps": lambda: definition({"x": 1 << 31}),
        "padding": lambda: definition(padding=PADDING),
        "tokens": lambda: definition({f"t{i}": i + 12 for i in range(1_100_000)}),
    },
    ("hf, pieces", "vocab.txt"): {
        "lines": lambda: b"\n" * (11 * MB),
        "tokens": lambda: "\n".join([*SPECIAL, *map(str, range(1_200_000))]).encode(),
    },
    ("hf", "tokenizer_config.json"): {"deep": lambda: DEEP},
    ("hf, pieces", "added_tokens.json"): {"deep": lambda: b'{"a":' * 100_000},
    ("ours", "config.json"): {
        "deep": lambda: b'{"format": ' + DEEP,
        "huge sizes": lambda: json.dumps(OURS).encode(),
    },
    ("gluonnlp", "tiny.vocab"): {"lists": lambda: b'{"idx_to_token": [' + b"[]," * MB + b"[]]}"},
}
