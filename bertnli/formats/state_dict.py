"""PyTorch's state dicts, read without PyTorch into NumPy arrays; no code of a file is run.

`torch.save` writes a pickle that describes each tensor as a view (offset, sizes, strides) of a
storage, and the storages' bytes beside it:

    zip (since 1.6)   NAME/data.pkl, NAME/data/KEY for each storage, perhaps NAME/byteorder
    legacy            pickles of a magic number, 1001, facts of the machine, the object, and the
                      storages' keys; then for each key i64 number of elements, bytes

Python's unpickler reads the pickle, with a `find_class` that knows the few names that tensors need
and refuses all others. A scan of the instructions goes before it, which bounds memory and time.
"""

from __future__ import annotations

import functools
import io
import math
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertnli._util.files import COPY_ANEW, open_regular
from bertnli.errors import CheckpointError
from bertnli.formats.tensors import check_names, widened

LEGACY_MAGIC, LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
#: Where training checkpoints keep the state dict, beside the optimizer's and counters.
STATE_KEYS = ("state_dict", "model_state_dict")
#: Views may show an element several times. All tensors together may have one element for each byte
#: of the file, and this many more.
MAX_REPEATED = 1 << 22
#: Instructions of a pickle, of which a tensor takes about 45; values in a tuple, nested ones too.
MAX_INSTRUCTIONS, MAX_TUPLE = 1 << 18, 256
#: The codes of the instructions that picklers write for containers, numbers, texts and calls.
INSTRUCTIONS = frozenset(
    "\x80\x95.(01N\x88\x89JKM\x8aGX\x8c\x8dUTCB})]t\x85\x86\x87suaeqr\x94hjc\x93R\x81bQ"
)
#: Dimensions of a tensor: NumPy's own limit.
MAX_DIMENSIONS = 32
#: Storage classes to NumPy's codes.
STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bf16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
    "UntypedStorage": "u1",
}
#: Dtypes that have no storage class, to NumPy's codes.
UNTYPED = {"uint16": "<u2", "uint32": "<u4", "uint64": "<u8"}


class _Refused(Exception):
    """A pickle holds what no state dict needs."""


class _Storage(NamedTuple):
    """A storage that a pickle names."""

    code: str
    key: str
    size: int

    def elements(self, raw: bytes) -> NDArray:
        """Return the storage's elements, which cannot be written to."""
        stored = np.frombuffer(raw, "<u2" if self.code == "bf16" else self.code)
        if not 0 <= self.size <= len(stored):
            raise ValueError(f"a storage has {len(stored)} elements, not {self.size}")
        return widened(stored[: self.size]) if self.code == "bf16" else stored[: self.size]


class _Tensor(NamedTuple):
    """A tensor as a pickle describes it; its values lie elsewhere in the file."""

    storage: _Storage
    offset: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    code: str

    def array(self, elements: NDArray) -> NDArray:
        """Return the view of its storage's elements that the tensor is."""
        if self.code != self.storage.code:
            elements = elements.view(self.code)
        last = sum((n - 1) * step for n, step in zip(self.sizes, self.strides, strict=True))
        end = self.offset if 0 in self.sizes else self.offset + last + 1
        if end > len(elements):
            raise ValueError(f"a tensor reaches element {end} of {len(elements)}")
        steps = [step * elements.itemsize for step in self.strides]
        return np.lib.stride_tricks.as_strided(
            elements[self.offset :], self.sizes, steps, writeable=False
        )


def read_state_dict(path: str | Path) -> dict[str, NDArray]:
    """Return the tensors of a state dict by their names.

    These are the tensors of `torch.load(path, weights_only=True)` with the file's own dtypes;
    bfloat16, which NumPy lacks, becomes float32 without loss. Tensors that share a storage share
    memory, which is read-only. From a training checkpoint, such as Lightning's, the model's state
    dict is taken.

    Args:
        path: of the file, in the zip format or in the one before PyTorch 1.6.

    Raises:
        CheckpointError: the file is damaged, or holds something other than a dictionary of dense
            tensors; the message says what.
    """
    with open_regular(path, CheckpointError) as file:
        data = file.read()
    if not data.startswith((b"PK", pickle.PROTO)):
        kind = "a page of HTML" if data.lstrip()[:1] == b"<" else f"it begins with {data[:8]!r}"
        raise CheckpointError(f"{path} is no file of torch.save: {kind}. {COPY_ANEW}")
    try:
        content, read = _read_zip(data) if data.startswith(b"PK") else _read_legacy(data)
        tensors = _state_of(content)
        check_names(tensors, path)
        count = sum(math.prod(tensor.sizes) for tensor in tensors.values())
        if count > len(data) + MAX_REPEATED:
            raise _Refused(f"its tensors repeat {len(data):,} bytes as {count:,} elements")
        elements = functools.cache(lambda storage: storage.elements(read(storage.key)))
        return {name: tensor.array(elements(tensor.storage)) for name, tensor in tensors.items()}
    except (CheckpointError, MemoryError):
        raise
    except _Refused as error:
        raise CheckpointError(f"{path} is not a state dict of tensors: {error}") from error
    except Exception as error:  # whatever the readers make of damaged bytes
        raise CheckpointError(
            f"{path} is damaged or not a file of torch.save: {error}. {COPY_ANEW}"
        ) from error


def _state_of(content: Any) -> dict[str, _Tensor]:
    """Return the dictionary of tensors in what a pickle holds."""
    if isinstance(content, dict):
        inner = [content[key] for key in STATE_KEYS if isinstance(content.get(key), dict)]
        content = inner[0] if len(inner) == 1 else content
    if not isinstance(content, dict):
        raise _Refused(
            f"it holds a {type(content).__name__}, where a dictionary of tensors is expected, as "
            "torch.save(net.state_dict(), path) writes it"
        )
    for name, value in content.items():
        if type(name) is not str or type(value) is not _Tensor:
            raise _Refused(
                f"{name!r:.60} is a {type(value).__name__}, where a name and a tensor are "
                "expected; save net.state_dict() alone"
            )
    return content


#: Returns the bytes of a storage, by its key.
_Reader = Callable[[str], bytes]


def _read_zip(data: bytes) -> tuple[Any, _Reader]:
    archive = zipfile.ZipFile(io.BytesIO(data))
    entries = {entry.filename: entry for entry in archive.infolist()}
    if len(entries) < len(archive.infolist()):
        raise ValueError("the archive has two entries of the same name")
    if sum(entry.file_size for entry in entries.values()) > len(data):  # nothing is compressed
        raise ValueError("the archive's entries are longer than the archive")
    pickles = [name for name in entries if name.split("/")[1:] == ["data.pkl"]]
    if len(pickles) != 1:
        raise ValueError(f"the archive has {len(pickles)} data.pkl")
    root = pickles[0].removesuffix("data.pkl")

    def read(name: str) -> bytes:
        if entries[root + name].compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} is compressed")
        return archive.read(entries[root + name])

    if root + "byteorder" in entries and read("byteorder") != b"little":
        raise _Refused("it was written on a big-endian machine; save it on another")
    content = _Unpickler(io.BytesIO(read("data.pkl"))).load()
    return content, lambda key: read(f"data/{key}")


def _read_legacy(data: bytes) -> tuple[Any, _Reader]:
    file = io.BytesIO(data)
    if _Unpickler(file).load() != LEGACY_MAGIC:
        raise ValueError("it does not begin as such a file does")
    if (protocol := _Unpickler(file).load()) != LEGACY_PROTOCOL:
        raise ValueError(f"protocol {protocol!r} is unknown")
    _Unpickler(file).load()
    unpickler = _Unpickler(file)
    content = unpickler.load()
    raw = {}
    for key in _Unpickler(file).load():
        code, _, count = unpickler.storages[key]
        size = count * (2 if code == "bf16" else np.dtype(code).itemsize)
        (written,) = struct.unpack("<q", file.read(8))
        if written not in (count, size):  # an untyped storage counts bytes
            raise ValueError(f"storage {key} has {written} elements, not {count}")
        raw[key] = file.read(size)
    return content, raw.__getitem__


class _Unpickler(pickle.Unpickler):
    """Reads the pickle at a file's position, which is after it then.

    Attributes:
        storages: those that the pickle names, by their keys.
    """

    def __init__(self, file: io.BytesIO) -> None:
        start = file.tell()
        _scan(file)
        size = file.tell() - start
        file.seek(start)
        super().__init__(io.BytesIO(file.read(size)), encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a class or a function; nothing is imported."""
        if f"{module}.{name}" in _FUNCTIONS:
            return _FUNCTIONS[f"{module}.{name}"]
        if module in ("torch", "torch.storage", "torch.cuda") and name in STORAGES | UNTYPED:
            return (STORAGES | UNTYPED)[name]
        raise _Refused(
            f"it needs the class or function {module}.{name}, and code is not run here. Save the "
            "tensors alone: torch.save(net.state_dict(), path)"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the storage that a reference means."""
        if type(pid) is not tuple or pid[:1] != ("storage",) or pid[5:] not in ((), (None,)):
            raise _Refused("it refers to something other than a storage")
        _, code, key, _, size = pid[:5]
        if code not in STORAGES.values() or type(key) is not str or type(size) is not int:
            raise ValueError("a storage's key is no text, or its size no number")
        storage = _Storage(code, key, size)
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError(f"storage {key} is described twice")
        return storage


def _scan(file: io.BytesIO) -> None:
    """Refuse a pickle that takes much memory or time, before it is read.

    The unpickler's stack is simulated, with the number of values in each tuple in the place of
    the objects: the key of a dictionary is hashed with everything that is nested in it.
    """
    stack: list[int] = []
    below_marks: list[list[int]] = []
    memo: dict[int, int] = {}
    for number, (op, arg, _) in enumerate(pickletools.genops(file)):
        if op.code not in INSTRUCTIONS or number > MAX_INSTRUCTIONS:
            raise _Refused(f"its pickle is too long, or has the instruction {op.name}")
        if isinstance(arg, int) and arg.bit_length() > 64 and arg != LEGACY_MAGIC:
            raise ValueError("a number of a pickle has more than 64 bits")
        if op.name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            index = len(memo) if arg is None else int(arg)
            if index > number:
                raise ValueError("a pickle's memo has gaps")
            memo[index] = stack[-1]
        elif op.name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[int(arg or 0)])
        elif op.name == "MARK":
            below_marks.append(stack)
            stack = []
        elif op.name == "POP" and not stack:
            stack = below_marks.pop()
        else:
            values: list[int] = []
            count = len(op.stack_before)
            if pickletools.stackslice in op.stack_before:  # after a mark: two entries of the list
                values, stack = stack, below_marks.pop()
                count -= 2
            kept = len(stack) - count
            if kept < 0:
                raise ValueError("a pickle's stack is too short")
            size = 1 + sum(values + stack[kept:]) if op.name.startswith("TUPLE") else 1
            if size > MAX_TUPLE:
                raise ValueError(f"a tuple of a pickle has more than {MAX_TUPLE} values")
            stack[kept:] = [size] * len(op.stack_after)


# What a pickle may call


def _tensor(storage: Any, offset: Any, sizes: Any, strides: Any, code: str = "") -> _Tensor:
    if type(storage) is not _Storage:
        raise _Refused("a tensor has no storage")
    sizes, strides = _sizes(sizes), _sizes(strides)
    if len(sizes) != len(strides) or type(offset) is not int or offset < 0:
        raise ValueError(f"a tensor has {len(sizes)} sizes and {len(strides)} strides")
    if math.prod(sizes) >= 1 << 62:
        raise ValueError(f"a tensor of sizes {sizes} is too large")
    if code not in ("", *UNTYPED.values()):
        raise _Refused(f"a tensor has the dtype {code!r:.60}")
    return _Tensor(storage, offset, sizes, strides, code or storage.code)


def _tensor_of_dtype(
    storage: Any, offset: Any, sizes: Any, strides: Any, grad: Any, hooks: Any, code: Any, *_: Any
) -> _Tensor:
    return _tensor(storage, offset, sizes, strides, code)


def _sizes(sizes: Any = ()) -> tuple[int, ...]:
    if type(sizes) not in (tuple, list) or len(sizes) > MAX_DIMENSIONS:
        raise ValueError("a tensor has no sizes")
    if not all(type(n) is int and 0 <= n < 1 << 63 for n in sizes):
        raise ValueError("a tensor's sizes and strides are not numbers")
    return tuple(sizes)


def _parameter(data: Any, *_: Any) -> _Tensor:
    if type(data) is not _Tensor:
        raise _Refused("a parameter has no tensor")
    return data


def _dictionary(items: Any = None) -> _Dictionary:
    if items is not None and type(items) is not list:
        raise _Refused("an OrderedDict is made of no list")
    dictionary = _Dictionary(items or ())
    if items:
        items.clear()  # so that a pickle cannot hand over the same list again and again
    return dictionary


class _Dictionary(dict[Any, Any]):
    """An OrderedDict of a pickle, without its attributes, such as the modules' versions."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Function:
    """A function that a pickle may call, and whose attributes it cannot set."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.call = function

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise _Refused("it sets attributes of a function")


_FUNCTIONS = {
    "collections.OrderedDict": _Function(_dictionary),
    "torch.Size": _Function(_sizes),
    "torch._utils._rebuild_tensor": _Function(_tensor),
    "torch._utils._rebuild_tensor_v2": _Function(lambda *args: _tensor(*args[:4])),
    "torch._utils._rebuild_tensor_v3": _Function(_tensor_of_dtype),
    "torch._utils._rebuild_parameter": _Function(_parameter),
}
