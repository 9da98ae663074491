"""Reads damaged files, one after the other, and stops at the first that is handled wrongly.

    python damaged_files_worker.py READER COUNT FOLDER ORIGINAL...

Prints as JSON how many were refused with an error and how many were read.
"""

import codecs
import contextlib
import io
import json
import os
import pickle
import random
import shutil
import struct
import sys
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
for _framework in ("torch", "mxnet", "transformers"):
    sys.modules[_framework] = None  # type: ignore[assignment]

from hostile import damaged, damaged_json, watch, watched  # noqa: E402

from bertnli.api.info import info  # noqa: E402
from bertnli.errors import BERTNLIError  # noqa: E402
from bertnli.formats.load import load_checkpoint  # noqa: E402
from bertnli.formats.params import read_params  # noqa: E402
from bertnli.formats.state_dict import read_state_dict  # noqa: E402

CLASSES = ("entailment", "contradiction", "neutral")
#: What a hostile pickle calls.
TARGETS = (
    *(("os", "system"), ("posix", "system"), ("builtins", "eval"), ("builtins", "exec")),
    *(("subprocess", "Popen"), ("builtins", "__import__"), ("torch", "load"), ("shutil", "rmtree")),
    *(("builtins", "getattr"), ("operator", "attrgetter"), ("torch.storage", "_load_from_bytes")),
    *(("collections", "Counter"), ("numpy.core.multiarray", "_reconstruct"), ("io", "open")),
)

# Damage


def hostile_pickle(rng):
    """A pickle that calls what it should not, or is made to take for ever."""
    module, name = rng.choice(TARGETS)
    call = b"c%s\n%s\n" % (module.encode(), name.encode())
    nest = b"\x80\x02K\x01q\x00" + b"0h\x00h\x00\x86q\x00" * 40 + b"h\x00"
    stolen = b"X\x1a\x00\x00\x00touch /tmp/bertnli-hostile"
    return rng.choice(
        [
            b"\x80\x02" + call + b"(" + stolen + b"tR.",
            b"\x80\x02}X\x01\x00\x00\x00a" + call + b"(" + stolen + b"tRs.",
            b"\x80\x04" + b"\x8c\x02os\x8c\x06system\x93(" + stolen + b"tR.",
            b"(i%s\n%s\n." % (module.encode(), name.encode()),
            b"\x80\x02" + call + b")\x81}b.",
            b"\x80\x02" + b"(" * 200_000 + b".",
            b"\x80\x02" + b"]q\x00" + b"h\x00a" * 20_000 + b".",
            b"\x80\x02" + b"K\x01" + b"\x85" * 300_000 + b".",
            # Tuples of the same tuple, twice, and so on: 2^60 elements, if anybody walks them.
            b"\x80\x02K\x01" + b"2\x86" * 60 + b".",
            nest + b")R.",
            nest + b"h\x00\x93.",
            b"\x80\x02(" + nest[2:] + b"K\x00K\x00K\x00K\x00tQ.",
            b"\x80\x02ctorch\nSize\nq\x01(" + b"K\x01" * 5000 + b"lq\x02"
            b"0" + b"h\x01(h\x02tR0" * 5000 + b"N.",
            b"\x80\x02\x8b\xff\xff\xff\x7f.",
            b"\x80\x02X\xff\xff\xff\x7f.",
            b"\x80\x02ccollections\nOrderedDict\n(]((K\x01]K\x02tetR.",
            b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00"
            b"\x00\x00cpu\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7ftQ.",
        ]
    )


def with_pickle(raw, rng):
    """A state dict whose pickle is another."""
    change: Callable[[bytes], bytes] = lambda old: hostile_pickle(rng)  # noqa: E731
    if rng.random() < 0.6:
        change = lambda old: damaged(old, rng)  # noqa: E731
    if not raw.startswith(b"PK"):
        start = raw.index(b"\x80\x02}q", 20)
        return raw[:start] + change(raw[start:])
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(out, "w") as new:
        for member in old.infolist():
            data = old.read(member)
            is_pickle = member.filename.endswith("data.pkl")
            method = zipfile.ZIP_DEFLATED if rng.random() < 0.02 else zipfile.ZIP_STORED
            new.writestr(member.filename, change(data) if is_pickle else data, method)
            if rng.random() < 0.02:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    new.writestr(member.filename, bytes(len(data)), method)
    return out.getvalue()


# What files declare, read in another way than bertnli's


def declared_params(raw):
    codes = ("f4", "f8", "f2", "u1", "i4", "i1", "i8", "b1", "i2", "u2", "u4", "u8", "f4")
    file = io.BytesIO(raw)

    def number(code):
        return int(struct.unpack("<" + code, file.read(struct.calcsize(code)))[0])

    file.read(16)
    result = []
    for _ in range(number("Q")):
        version = number("I")
        if version >= 0xF993FAC8:
            if version > 0xF993FAC8:
                number("i")
            shape = tuple(number("q") for _ in range(number("i")))
        else:
            shape = tuple(number("I") for _ in range(version))
        file.read(8)
        kind = number("i")
        size = 2 if kind == 12 else int(codes[kind][1])
        count = 1
        for side in shape:
            count *= side
        file.read(count * size)
        result.append((codes[kind], shape))
    names = [file.read(number("Q")).decode() for _ in range(number("Q"))]
    if not names:
        names = [str(i) for i in range(len(result))]
    plain = [name[4:] if name[:4] in ("arg:", "aux:") else name for name in names]
    return dict(zip(plain, result, strict=True))


class Declared(pickle._Unpickler):  # type: ignore[name-defined,misc]
    """Python's own unpickler (that in Python: the one in C has no dictionary for its memo), with
    descriptions in the place of tensors."""

    KINDS = {  # noqa: RUF012
        "Float": "f4",
        "Double": "f8",
        "Half": "f2",
        "BFloat16": "f4",
        "Long": "i8",
        "Int": "i4",
        "Short": "i2",
        "Char": "i1",
        "Byte": "u1",
        "Bool": "b1",
        "Untyped": "u1",
    }

    def find_class(self, module, name):
        if name == "OrderedDict":
            return dict
        if name == "Size":
            return tuple
        if name.endswith("Storage"):
            return self.KINDS[name.removesuffix("Storage")]
        if name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return lambda storage, offset, sizes, *_: (storage, tuple(sizes))
        if name == "_rebuild_tensor_v3":
            # Its storage is bytes, and the dtype a name of torch's.
            return lambda storage, offset, sizes, strides, a, b, dtype, *_: (dtype, tuple(sizes))
        if name == "_rebuild_parameter":
            return lambda data, *_: data
        return {"uint16": "u2", "uint32": "u4", "uint64": "u8"}[name]

    def persistent_load(self, key):
        return key[1]


def declared_state(raw):
    if raw.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            name = next(n for n in archive.namelist() if n.split("/")[1:] == ["data.pkl"])
            result: Any = Declared(io.BytesIO(archive.read(name))).load()
            return dict(result)
    file = io.BytesIO(raw)
    for _ in range(3):
        Declared(file).load()
    return dict(Declared(file).load())


def declared_safetensors(path):
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    header.pop("__metadata__", None)
    codes = {"F32": "f4", "F16": "f2", "F64": "f8", "BF16": "f4"}
    return Counter((codes[t["dtype"]], tuple(t["shape"])) for t in header.values())


def described(arrays):
    if isinstance(arrays, list):
        arrays = {str(i): array for i, array in enumerate(arrays)}
    for array in arrays.values():
        array.tobytes()  # all of it can be read
    return {name: (array.dtype.str[1:], array.shape) for name, array in arrays.items()}


# The cases


def case_file(original, target, rng):
    raw = original.read_bytes()
    is_state = original.suffix == ".pt"
    target.write_bytes(
        with_pickle(raw, rng) if is_state and rng.random() < 0.5 else damaged(raw, rng)
    )
    return target


def case_folder(original, target, rng):
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(original, target)
    path = rng.choice(sorted(target.iterdir()))
    raw = path.read_bytes()
    is_json = path.suffix in (".json", ".vocab")
    path.write_bytes(
        damaged_json(raw, rng) if is_json and rng.random() < 0.6 else damaged(raw, rng)
    )
    return target


def check_folder(path, result):
    weights = path / "model.safetensors"
    if not weights.exists():
        files = [*path.glob("*.params"), *path.glob("*.bin")]
        raw = files[0].read_bytes()
        by_name = declared_state(raw) if raw.startswith((b"PK", b"\x80")) else declared_params(raw)
        declared = Counter(by_name.values())
    else:
        declared = declared_safetensors(weights)
    given = Counter(described(result.arrays).values())
    # The table of positions has a dimension more in ours.
    flat = {("f4", s) if len(s) < 3 else ("f4", s[1:]) for _, s in given}
    assert {("f4", s[-2:]) for _, s in declared} >= flat or given == declared, (declared, given)
    assert sum(given.values()) <= sum(declared.values())
    assert result.labels is None or len(result.labels) >= 2


def run():
    reader, count, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    sources = [Path(path) for path in sys.argv[4:]]
    read: Callable[[Path], Any]
    read = read_params if reader == "params" else read_state_dict
    declared = declared_params if reader == "params" else declared_state
    if sources[0].is_dir() or sources[0].suffix == ".zip":
        labels = CLASSES if reader == "GluonNLP" else None

        def read(path):
            with contextlib.suppress(BERTNLIError):
                info(path)
            return load_checkpoint(path, labels)

    for source in sources:
        read(source)  # whatever is imported late, and the originals are whole
    for encoding in ("cp437", "unicode_escape"):  # which are imported late
        codecs.lookup(encoding)
    sys.addaudithook(watch)
    counts = Counter(refused=0, read=0)
    for number in range(count):
        rng = random.Random(f"{reader} {number}")
        source = rng.choice(sources)
        make = case_folder if source.is_dir() else case_file
        shutil.rmtree(os.environ["BERTNLI_CACHE"], ignore_errors=True)
        path = make(source, folder / f"case{source.suffix}", rng)
        try:
            result = watched(read, path)
        except BERTNLIError:
            counts["refused"] += 1
            continue
        except BaseException:
            print(f"case {number} of {reader}, in {path}", file=sys.stderr)
            raise
        counts["read"] += 1
        try:
            if path.is_dir():
                check_folder(path, result)
            elif path.suffix != ".zip":
                assert described(result) == declared(path.read_bytes())
        except BaseException:
            print(f"case {number} of {reader} was read wrongly, in {path}", file=sys.stderr)
            raise
    assert not Path("/tmp/bertnli-hostile").exists()
    print(json.dumps(counts))


if __name__ == "__main__":
    run()
