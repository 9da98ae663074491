"""Small files that would take much memory or time, things that are no files, and their places."""

import base64
import gzip
import io
import json
import lzma
import os
import socket
import struct
import tarfile
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bertnli.text.subwords import SubwordVocab

FIXTURES = Path(__file__).parents[1] / "fixtures"
MB = 1 << 20
HEAD = "gold_label\tsentence1\tsentence2\n"
CSV = HEAD.replace("\t", ",")
DEEP = b"[" * 200_000


# PyTorch's and MXNet's files


def state_zip(data_pkl, **entries):
    """Make a state dict of torch.save: its pickle, and the bytes of its storages."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("p/data.pkl", data_pkl)
        for name, content in entries.items():
            archive.writestr(f"p/data/{name}", content)
    return buffer.getvalue()


def pickled_int(number):
    raw = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def pickled_ints(*values):
    return b"(" + b"".join(map(pickled_int, values)) + b"t"


def pickled_tensor(count, sizes, strides):
    """Make a pickle's instructions for a tensor of `count` elements."""
    storage = b"(U\x07storagectorch\nFloatStorage\nU\x01kU\x03cpu" + pickled_int(count) + b"tQ"
    function = b"ctorch._utils\n_rebuild_tensor_v2\n("
    return function + storage + b"K\x00" + sizes + strides + b"\x89}tR"


def pickled_dict(count, value):
    """Make a pickle of a dictionary of `count` names with one value, as instructions."""
    items = b"".join(b"X" + struct.pack("<I", 6) + b"%06d" % i + value for i in range(count))
    return b"\x80\x02}(" + items + b"u."


def many_sizes(value):
    sizes = pickled_ints(*[value] * 60_000)
    tensor = pickled_tensor(4, sizes, sizes)
    return state_zip(b"\x80\x02}U\x01a" + tensor + b"s.", k=bytes(16))


def zero_strides(count, legacy=False):
    """Make a state dict of `count` tensors of 2**24 elements, each a view of one number."""
    pickle = pickled_dict(count, pickled_tensor(4, pickled_ints(1 << 24), pickled_ints(0)))
    if not legacy:
        return state_zip(pickle, k=bytes(16))
    magic = pickled_int(0x1950A86A20F9469CFC6C)
    start = b"\x80\x02" + magic + b".\x80\x02" + pickled_int(1001) + b".\x80\x02}."
    return start + pickle + b"\x80\x02]U\x01ka." + struct.pack("<q", 4) + bytes(16)


TENSOR = pickled_tensor(65536, pickled_ints(65536), pickled_ints(1))


def one_tensor_of_many_names():
    """Make a state dict of 20,000 names of one tensor, by references to the pickle's memo."""
    made = b"\x80\x02" + TENSOR + b"q\x000"
    return state_zip(made + pickled_dict(20_000, b"h\x00")[2:], k=bytes(1 << 18))


def deflated_pickle():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("p/data.pkl", bytes(64 * MB))
    return buffer.getvalue()


def member_of_2_gb():
    """Make an archive whose directory says that a member has 2 GB."""
    raw = bytearray(state_zip(b"\x80\x02}.", k=bytes(16)))
    place = raw.index(b"PK\1\2")
    raw[place + 20 : place + 28] = b"\xfe\xff\xff\x7f" * 2
    return bytes(raw)


def npz(entries, compression=zipfile.ZIP_STORED):
    """Make an archive of MXNet 2.0 of .npy files, given as names and bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def npy(shape, size):
    """Make a .npy that says its shape, and has any number of bytes."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + bytes(size)


def params(count, name, sizes=(0,)):
    """Make MXNet's .params of `count` arrays, in the oldest layout, which is the shortest."""
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


# Safetensors, vocabularies, settings


def safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensors(count, shape, size, name="t{}"):
    """Describe tensors for the header of safetensors, all of the same bytes."""
    one = {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}
    return {name.replace("{}", str(i), 1): one for i in range(count)}


SPECIAL = ("[UNK]", "[PAD]", "[MASK]", "[CLS]", "[SEP]")


def definition(vocab=None, model=None, **changes):
    """Make a tokenizer.json of word pieces, with changes."""
    made = json.loads(SubwordVocab.from_pieces([*SPECIAL, *"abcdefg"]).definition())
    made["model"] |= model or {}
    made["model"]["vocab"] |= vocab or {}
    return json.dumps({**made, **changes}).encode()


def added(i, content, **changes):
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return {"id": i, "content": content, **flags, **changes}


def normalized(*steps, **changes):
    return definition(normalizer={"type": "Sequence", "normalizers": list(steps)}, **changes)


def replaced(content, **pattern):
    return {"type": "Replace", "pattern": pattern, "content": content}


def unigram(pieces):
    """Make a tokenizer.json of pieces with probabilities."""
    made = json.loads(definition())
    return json.dumps({**made, "model": {"type": "Unigram", "unk_id": 0, "vocab": pieces}}).encode()


def precompiled(text):
    """Make a step with a table of characters that puts a text in the place of the letter a."""
    units = np.zeros(512, np.uint32)
    units[0], units[97] = 1 << 10, 97 | 1 << 8 | 1 << 10
    table = struct.pack("<I", units.nbytes) + units.tobytes() + text + b"\0"
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}


def protobuf(*fields):
    """Make a message of protocol buffers of (number, bytes) pairs, as in SentencePiece's files."""
    return b"".join(bytes([number << 3 | 2, *varint(len(raw))]) + raw for number, raw in fields)


def varint(number):
    low = [number >> 7 * i & 127 for i in range(max(1, -(-number.bit_length() // 7)))]
    return [*(byte | 128 for byte in low[:-1]), low[-1]]


def sentencepiece(texts, *more):
    """Make a model of SentencePiece of pieces that begin with BERT's special tokens."""
    return protobuf(*((1, protobuf((1, text.encode()))) for text in (*SPECIAL, *texts)), *more)


def nested(depth):
    inside = b'{"type": "Sequence", "normalizers": ['
    text = definition(normalizer="HERE")
    return text.replace(b'"HERE"', inside * depth + b'{"type": "NFC"}' + b"]}" * depth)


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
PREPENDED = {"type": "Prepend", "prepend": "\u2581"}
DOUBLED = [replaced("aa", String="a")] * 34
GROWING = [replaced("\ufdfa", String="\u0644"), {"type": "NFKD"}] * 9
SPLIT = {"type": "Split", "pattern": {"Regex": "(a|a)*$"}, "behavior": "Isolated", "invert": False}
PADDING = {"strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None}
PADDING |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
SIZES = {"model_type": "bert", "vocab_size": 10**300, "hidden_size": 4 * 10**200}
SIZES |= {"intermediate_size": 10**100, "num_attention_heads": 4, "num_hidden_layers": 10**9}
SIZES |= {"max_position_embeddings": 2**62, "hidden_dropout_prob": 10**400}
OUR_SIZES = {"vocab_size": 12, "num_hiddens": 10**400, "ffn_num_hiddens": 10**4000}
OUR_SIZES |= {"num_heads": 1, "num_blks": 10**12, "max_len": 10**30}
OURS = {"format": "bertnli classifier", "version": 1, "labels": [*"abc"], "model": OUR_SIZES}
LONG_NAME = "bert.encoder.layer.{}.output.dense.{0:>99999999}"


# Exported graphs


def graph(count, op, *inputs):
    """Make a graph of `count` nodes, whose inputs are so many nodes before each."""
    first = [{"op": "null", "name": "data", "inputs": []}] * max(inputs, default=1)
    rest = range(len(first), len(first) + count)
    nodes = [{"op": op, "name": "", "inputs": [[i - n, 0, 0] for n in inputs]} for i in rest]
    return json.dumps({"nodes": [*first, *nodes]}).encode()


def long_sum(count):
    """Make the graph of a BERT with `count` sums after its last block, each of one node twice."""
    nodes = json.loads((FIXTURES / "exported" / "snli-symbol.json").read_bytes())["nodes"]
    place = 1 + max(i for i, node in enumerate(nodes) if node["op"] == "LayerNorm")
    for node in nodes[place:]:
        for entry in node["inputs"]:
            entry[0] += count * (entry[0] >= place - 1)
    sums = [{"op": "elemwise_add", "inputs": [[place + i - 1, 0, 0]] * 2} for i in range(count)]
    return json.dumps({"nodes": nodes[:place] + sums + nodes[place:]}).encode()


def with_long_setting():
    """Make the graph of a BERT whose settings have long texts."""
    text = (FIXTURES / "exported" / "snli-symbol.json").read_text()
    return text.replace('"gelu"', '"' + "9" * MB + '"').replace("1e-12", "9" * MB).encode()


# Corpora and archives


def long_gz(start, piece, count=40):
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1) as file:
        file.write(start.encode())
        for _ in range(count):
            file.write(piece)
    return buffer.getvalue()


def packed_tar(pack, size):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("a")
        info.size = size
        tar.addfile(info, io.BytesIO(bytes(size)))
    return pack(buffer.getvalue())


def xz_with_a_large_dictionary(raw):
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20, "mode": lzma.MODE_FAST}]
    small = lzma.compress(raw, filters=filters)
    # The size of the dictionary is one byte of the block's header, whose checksum follows.
    place = small.index(b"\x21\x01", 12)
    header = bytearray(small[12 : 12 + (small[12] + 1) * 4])
    header[place - 12 + 2] = 38  # 2 GiB
    header[-4:] = struct.pack("<I", zlib.crc32(header[:-4]))
    return small[:12] + bytes(header) + small[12 + len(header) :]


def table(sentence):
    return f"{HEAD}neutral\t{sentence}\tb\n".encode()


DEEP_NAME = "{}/" + "/".join("abcdefghijklmnopqrstuvwxyzabcd")
#: (Folder, file of it) to functions that make contents, by what is wrong with them.
CASES = {
    ("params", "pretrained.params"): {
        "many of one name": lambda: params(60_000, lambda _: "a"),
        "some of one name": lambda: params(16_000, lambda _: "a"),
        "many names": lambda: params(60_000, str),
        "long sides": lambda: params(10_000, str, (0, *[1 << 31] * 31)),
        "archive of many": lambda: npz((str(i), npy("(0,)", 0)) for i in range(30_000)),
        "archive of zeros": lambda: npz(
            [("a", npy("(99999999,)", 399_999_996))], zipfile.ZIP_DEFLATED
        ),
        "archive of long sides": lambda: npz([("a", npy(f"({'9' * 18}, {'9' * 18})", 4))]),
        "archive of sides": lambda: npz((str(i), npy(f"({'1, ' * 9000})", 4)) for i in range(60)),
        "long names": lambda: params(8, lambda i: "encoder.blks." + "1" * 100_000 + f".{i}"),
    },
    ("torch", "pretrained.params"): {
        "many sizes": lambda: many_sizes((1 << 62) + 1),
        "many sizes of one": lambda: many_sizes(1),
        "strides of 0": lambda: zero_strides(60),
        "one stride of 0": lambda: zero_strides(1),
        "a call": lambda: state_zip(b"\x80\x02}U\x01acos\nsystem\n(U\x04truetRs."),
        "an object": lambda: state_zip(b"\x80\x02}U\x01acsubprocess\nPopen\n)\x81}bs."),
        "one tensor of many names": one_tensor_of_many_names,
        "tied views": lambda: state_zip(pickled_dict(6_000, TENSOR), k=bytes(1 << 18)),
        "a deflated pickle": deflated_pickle,
        "a member's size": member_of_2_gb,
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
        "many": lambda: safetensors(tensors(40_000, [0], 0)),
        "overlap": lambda: safetensors(tensors(5_000, [65536], 1 << 18), bytes(1 << 18)),
        "no such data": lambda: safetensors(tensors(1, [1 << 40], 1 << 42)),
        "sizes": lambda: safetensors(tensors(1, [0] + [1 << 60] * 9_000, 0)),
        "a format for a name": lambda: safetensors(tensors(1, [0], 0, LONG_NAME)),
    },
    ("hf, pickled", "pytorch_model.bin"): {"strides of 0": lambda: zero_strides(60)},
    ("hf", "tokenizer.json"): {
        "doubled": lambda: normalized(*DOUBLED),
        "doubled, of an added token": lambda: normalized(
            *DOUBLED, added_tokens=[added(0, "a", normalized=True)]
        ),
        "a long replacement": lambda: normalized(*[replaced("a" * 90_000, String="a")] * 2),
        "growing forms": lambda: normalized(*GROWING),
        "an expression": lambda: definition(normalizer=replaced("b", Regex="(a+)+$")),
        "spaces, a long replacement": lambda: definition(
            normalizer=replaced("a" * 900_000, Regex=" {2,}")
        ),
        "an empty text": lambda: normalized(*[replaced("a", String="")] * 30),
        "split by an expression": lambda: definition(pre_tokenizer=SPLIT),
        "precompiled": lambda: definition(
            normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}
        ),
        "before each": lambda: definition(normalizer={"type": "Prepend", "prepend": "a" * MB}),
        "precompiled, long": lambda: normalized(precompiled(b"aaaaaaaaaaaaaaaaaaaaaaaa" * 40_000)),
        "precompiled twice": lambda: normalized(*[precompiled(b"a" * 60)] * 5),
        "precompiled out of bounds": lambda: normalized(
            {"type": "Precompiled", "precompiled_charsmap": "AAQAAP" + "/" * 1362 + "=="}
        ),
        "bytes of bytes": lambda: normalized(*[BYTES] * 15),
        "bytes of bytes of words": lambda: definition(
            pre_tokenizer={"type": "Sequence", "pretokenizers": [BYTES] * 15}
        ),
        "before, often": lambda: normalized(*[PREPENDED] * 15),
        "spaces that grow": lambda: normalized(
            *[replaced("\u2581", String=" "), replaced("   ", String="\u2581")] * 8
        ),
        "a long piece": lambda: unigram([["[UNK]", 0.0], ["a" * 100_000, -1.0]]),
        "dropout": lambda: definition(model={"type": "BPE", "dropout": 0.5, "merges": []}),
        "no vocabulary": lambda: json.dumps({"model": {"type": "BPE"}}).encode(),
        "long words": lambda: definition(model={"max_input_chars_per_word": 10**9}),
        "added": lambda: definition(added_tokens=[added(i, f"[{i}]") for i in range(20_000)]),
        "a long one added": lambda: definition(
            added_tokens=[added(0, "ab" * 200_000, normalized=True)]
        ),
        "nested": lambda: nested(300),
        "deep": lambda: nested(50_000),
        "many steps": lambda: normalized(*[{"type": "NFC"}] * 60_000),
        "gaps": lambda: definition({"x": 1 << 31}),
        "padding": lambda: definition(padding=PADDING),
        "tokens": lambda: definition({f"t{i}": i + 12 for i in range(1_100_000)}),
    },
    ("hf, pieces", "vocab.txt"): {
        "lines": lambda: b"\n" * (11 * MB),
        "tokens": lambda: "\n".join([*SPECIAL, *map(str, range(1_200_000))]).encode(),
    },
    ("hf, spm", "spm.model"): {
        "pieces": lambda: sentencepiece(map(str, range(700_000))),
        "fields of a piece": lambda: sentencepiece("ab", *[(1, b"\x18\1" * 60_000)] * 50),
        "many parts": lambda: sentencepiece("ab", *[(2, b"\x18\1" * 4_000)] * 600),
        "empty pieces": lambda: b"\x0a\0" * (5 * MB),
        "numbers": lambda: b"\x08\0" * (5 * MB),
        "a long piece": lambda: sentencepiece(["a" * (11 * MB)]),
        "a long table": lambda: sentencepiece("ab", (3, protobuf((2, bytes(10 * MB))))),
        "a number for a table": lambda: sentencepiece("ab", (3, b"\x10\xff\xff\xff\x7f")),
        "another model": lambda: sentencepiece("ab", (2, b"\x18\2")),
        "cut off": lambda: sentencepiece("ab")[:-1],
        "no end": lambda: b"\xff" * MB,
        "a group": lambda: b"\x0b" * MB,
        "nan": lambda: protobuf((1, b"\x0a\1a\x15\0\0\xc0\x7f")),
    },
    ("hf", "tokenizer_config.json"): {
        "deep": lambda: DEEP,
        "added": lambda: json.dumps({"extra_special_tokens": [*map(str, range(20_000))]}).encode(),
        "infinite": lambda: b'{"added_tokens_decoder": {"1": {"content": 1e999}}}',
    },
    ("hf, pieces", "added_tokens.json"): {
        "deep": lambda: b'{"a":' * 100_000,
        "infinite": lambda: b'{"a": 1e999}',
    },
    ("ours", "config.json"): {
        "deep": lambda: b'{"format": ' + DEEP,
        "huge sizes": lambda: json.dumps(OURS).encode(),
    },
    ("exported", "snli-symbol.json"): {
        "deep": lambda: b'{"nodes": ' + DEEP,
        "layers": lambda: graph(40_000, "FullyConnected", 1),
        "products": lambda: graph(25_000, "batch_dot", 1, 2),
        "casts": lambda: graph(40_000, "Cast", 1),
        "a long sum": lambda: long_sum(25_000),
        "long settings": with_long_setting,
        "lists": lambda: b'{"nodes": [' + b"[]," * MB + b"[]]}",
        "a huge number": lambda: b'{"nodes": [{"op": "a", "inputs": [[' + b"9" * MB + b"]]}]}",
    },
    ("exported", "snli-0000.params"): {
        "many layers": lambda: params(8_000, "bert_transformer{}_proj_weight".format),
        "long names": lambda: params(
            8_000, lambda i: f"{'transformer1_ffn1_' * 50}position_weight{i}_weight"
        ),
    },
    ("roberta", "tiny.vocab"): {
        "numbers": lambda: b'{"idx_to_token": ["<s>", ' + b"1," * MB + b"1]}",
        "tokens": lambda: json.dumps(
            {"idx_to_token": ["<s>", "</s>", "<unk>", *map(str, range(1_000_000))]}
        ).encode(),
    },
    ("roberta", "bpe_ranks.json"): {
        "lines": lambda: b"\n" * (11 * MB),
        "one line": lambda: b"a " * (5 * MB),
        "the same merge": lambda: b"\n" + b"i s\n" * (2 * MB),
    },
    ("gluonnlp", "tiny.vocab"): {"lists": lambda: b'{"idx_to_token": [' + b"[]," * MB + b"[]]}"},
    ("corpus", "a.jsonl.gz"): {"one line": lambda: long_gz('{"sentence1": "', b"a" * MB)},
    ("corpus", "a.tsv.gz"): {
        "one line": lambda: long_gz(HEAD, b"a" * MB),
        "empty lines": lambda: long_gz(HEAD, b"\n" * MB),
        "nothing but zeros": lambda: long_gz("", bytes(MB)),
        "packed twice": lambda: gzip.compress(long_gz(HEAD, bytes(MB))),
        "of nothing": lambda: gzip.compress(b"") * 5_000,
        "a long name": lambda: b"\x1f\x8b\x08\x08" + bytes(6) + b"a" * (2 * MB),
    },
    ("corpus", "a.csv.gz"): {
        "one field": lambda: long_gz(f'{CSV}neutral,"', b"aaaaaaa\n" * (MB // 8))
    },
    ("snli.txt.gz", "snli_1.0_dev.txt.gz"): {"empty lines": lambda: long_gz(HEAD, b"\n" * MB)},
    ("corpus", "a.tsv"): {
        "columns": lambda: b"\t" * (3 * MB),
        "clitics": lambda: table("a" + "'s" * 50_000),
        "signs": lambda: table("+" * 100_000),
        "marks": lambda: table('("' * 50_000),
    },
    ("corpus", "a.csv"): {
        "columns": lambda: b"," * (3 * MB),
        "one field": lambda: CSV.encode() + b'neutral,"' + b"a b\n" * 300_000,
        "marks": lambda: CSV.encode() + b'neutral,"a\n' * 40_000,
    },
    ("corpus", "a.jsonl"): {
        "deep": lambda: (b"[" * 50_000 + b"\n") * 10,
        "lists": lambda: b"[" + b"[]," * 600_000 + b"[]]\n",
        "a huge number": lambda: b'{"gold_label": ' + b"9" * MB + b"}\n",
    },
    ("text", "a.txt.gz"): {"one line": lambda: long_gz("", b"a" * MB)},
    ("text", "a.txt"): {"marks": lambda: b". ! ? " * 100_000},
    ("run", "metrics.jsonl"): {"deep": lambda: DEEP},
    ("archive", "a.zip"): {
        "members": lambda: zip_of_many(20_000),
        "folders": lambda: zip_of_many(700, DEEP_NAME),
        "nothing but zeros": deflated_pickle,
    },
    ("archive", "a.tar"): {
        "gz, zeros": lambda: packed_tar(gzip.compress, 70 * MB),
        "xz, zeros": lambda: packed_tar(lambda raw: lzma.compress(raw, preset=0), 70 * MB),
        "xz, a dictionary of 2 GB": lambda: packed_tar(xz_with_a_large_dictionary, MB),
    },
}


# What is no file


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(path.parent)  # the name of a socket must be short
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


def sparse_after(begin):
    """Return a function that makes a file of 20 GB without blocks, after some bytes."""

    def make(path):
        path.write_bytes(begin)
        os.truncate(path, 20 << 30)

    return make


KINDS = {
    "pipe": os.mkfifo,
    "zeros": lambda path: path.symlink_to("/dev/zero"),
    "random": lambda path: path.symlink_to("/dev/urandom"),
    "socket": make_socket,
    "folder": os.mkdir,
    "sparse": sparse_after(b""),
    "sparse after a zip's begin": sparse_after(b"PK\3\4"),
    "sparse after a header": sparse_after(HEAD.encode()),
    "sparse after a JSON's begin": sparse_after(b'{"a": "'),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "empty": lambda path: path.touch(),
}
#: Folders, and the files of each that are replaced by the above.
PLACES = [
    (folder, name)
    for folder, names in {
        "hf": "config.json model.safetensors tokenizer.json tokenizer_config.json",
        "hf, pieces": "vocab.txt added_tokens.json",
        "hf, spm": "spm.model",
        "hf, pickled": "pytorch_model.bin",
        "ours": "config.json model.safetensors vocab.json",
        "params": "pretrained.params vocab.json config.json",
        "gluonnlp": "bert_2_32_4_tiny.params tiny.vocab",
        "roberta": "model_bert_SNLI_0.params tiny.vocab bpe_ranks.json",
        "exported": "snli-0000.params snli-symbol.json",
        "corpus": "a.tsv a.csv a.jsonl a.tsv.gz a.jsonl.gz",
        "snli.txt": "snli_1.0_dev.txt",
        "snli.txt.gz": "snli_1.0_dev.txt.gz",
        "snli.jsonl": "snli_1.0_dev.jsonl",
        "text": "a.txt a.txt.gz",
        "archive": "a.zip a.tar a.tar.gz",
        "run": "metrics.jsonl",
    }.items()
    for name in names.split()
]


@contextmanager
def in_place(path, make):
    """Within a block, replace the file at `path` by what `make(path)` makes."""
    before = path.read_bytes() if path.is_file() else None
    path.unlink(missing_ok=True)
    make(path)
    try:
        yield path
    finally:
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        if before is not None:
            path.write_bytes(before)
