"""PyTorch's state dicts, read with NumPy alone; no code of a file is run.

`torch.save` writes a pickle that names its tensors and describes each as a view (offset, sizes,
strides) of a storage, and the storages' bytes beside it:

    zip (since 1.6)   NAME/data.pkl, NAME/data/KEY for each storage, perhaps NAME/byteorder
    legacy            pickles of a magic number, 1001, facts of the machine, the object, and the
                      storages' keys; then for each key i64 number of elements, bytes

The pickles are not given to Python's unpickler. A small one here knows what plain containers of
tensors are made of, and refuses everything else by name.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli._util.files import COPY_ANEW, open_regular
from bertnli.errors import CheckpointError
from bertnli.formats.tensors import check_names

LEGACY_MAGIC, LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
#: How a pickle begins, of any protocol that PyTorch writes.
PICKLE = b"\x80"
#: The latest protocol of pickles.
PICKLE_PROTOCOL = 5

#: Tensors may share elements, and show one several times; who loads them copies each. All together
#: may have one for each byte of the file (of float16, each twice), and so many more.
MAX_REPEATED = 1 << 22
#: Dimensions of a tensor: NumPy's own limit.
MAX_DIMENSIONS = 32
#: Storage classes, and the dtypes of tensors whose storage has none, to NumPy's codes.
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
#: Where training checkpoints keep the state dict, beside the optimizer's and counters.
STATE_KEYS = ("state_dict", "model_state_dict")
UNTYPED = {"uint16": "<u2", "uint32": "<u4", "uint64": "<u8"}


def read_state_dict(path: str | Path) -> dict[str, NDArray]:
    """Return the tensors of a state dict by their names.

    What `torch.load(path, weights_only=True)` gives, as arrays of the file's own dtypes; bfloat16,
    which NumPy lacks, becomes float32, which holds each of its values. Tensors that share a storage
    share memory, which cannot be written to. Of a training checkpoint, such as Lightning's, these
    are the tensors of its state dict.

    Raises:
        CheckpointError: the file is damaged, or holds something else than a dictionary of dense
            tensors; the message says what.
    """
    with open_regular(path, CheckpointError) as file:
        data = file.read()
    if not data.startswith((b"PK", PICKLE)):
        kind = "a page of HTML" if data.lstrip()[:1] == b"<" else f"it begins with {data[:8]!r}"
        raise CheckpointError(f"{path} is no file of torch.save: {kind}. {COPY_ANEW}")
    try:
        state = _read_zip(data) if data.startswith(b"PK") else _read_legacy(data)
    except _Refused as error:
        raise CheckpointError(f"{path} is not a state dict of tensors: {error}") from error
    except (
        *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, NotImplementedError),
        *(ValueError, TypeError, LookupError, OverflowError, RuntimeError, AttributeError),
    ) as error:
        raise CheckpointError(
            f"{path} is damaged or not a file of torch.save: {error}. {COPY_ANEW}"
        ) from error
    if isinstance(state, dict):
        inner = [state[key] for key in STATE_KEYS if isinstance(state.get(key), dict)]
        state = inner[0] if len(inner) == 1 else state
    if not isinstance(state, dict):
        raise CheckpointError(
            f"{path} is not a state dict: it holds a {type(state).__name__}, where a dictionary of "
            "tensors is expected, as torch.save(net.state_dict(), path) writes it"
        )
    for name, value in state.items():
        if type(name) is not str or not isinstance(value, np.ndarray):
            raise CheckpointError(
                f"{path} is not a state dict: {name} is a {type(value).__name__}, where a tensor "
                "is expected; save net.state_dict() alone"
            )
    check_names(state, path)
    count = sum(array.size for array in state.values())
    if count > len(data) + MAX_REPEATED:
        raise CheckpointError(
            f"{path} is refused: its tensors show {count:,} elements of {len(data):,} bytes, the "
            "same again and again"
        )
    return state


class _Refused(Exception):
    """A pickle holds what no state dict needs."""


def _whole_net(kind: str) -> _Refused:
    return _Refused(
        f"it holds an object of the class {kind}, as torch.save(net) writes, and code is not run "
        "here. Save net.state_dict() in its place: torch.save(net.state_dict(), path)"
    )


@dataclass(frozen=True)
class _Global:
    """A name in a pickle, of a class or function that is not looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class _Storage:
    """A storage's elements: bfloat16 has become float32."""

    key: str
    elements: NDArray


def _read_zip(data: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        sizes = [info.file_size for info in archive.infolist()]
        if len(entries) < len(sizes):
            raise ValueError("the archive has two entries of the same name")
        if sum(sizes) > len(data):  # nothing is compressed: they lie inside each other
            raise ValueError("the archive's entries are longer than the archive")
        pickles = [name for name in entries if name.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise ValueError(f"the archive has {len(pickles)} data.pkl")
        root = pickles[0].removesuffix("data.pkl")

        def read(name: str) -> bytes:
            info = entries[root + name]
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > len(data):
                raise ValueError(f"{name} is compressed or too long")
            return archive.read(info)

        if root + "byteorder" in entries and read("byteorder") != b"little":
            raise _Refused("it was written on a big-endian machine; save it on another")
        storages: dict[str, _Storage] = {}

        def storage(kind: str, key: str, count: int) -> _Storage:
            if key not in storages:
                storages[key] = _Storage(key, _elements(read(f"data/{key}"), kind, count))
            return storages[key]

        return _Pickle(read("data.pkl"), storage).load()


def _read_legacy(data: bytes) -> Any:
    def no_storage(kind: str, key: str, count: int) -> _Storage:
        raise ValueError("a storage where none can be")

    place = 0
    found = []
    for _ in range(3):
        pickle = _Pickle(data, no_storage, place)
        found.append(pickle.load())
        place = pickle.place
        if found[0] != LEGACY_MAGIC:
            raise ValueError("it does not begin as such a file does")
    if found[1] != LEGACY_PROTOCOL:
        raise ValueError(f"protocol {found[1]!r} is unknown")
    # The storages' bytes come after the object: a first pass finds their sizes.
    kinds: dict[str, tuple[str, int]] = {}

    def note(kind: str, key: str, count: int) -> _Storage:
        if kinds.setdefault(key, (kind, count)) != (kind, count):
            raise ValueError(f"storage {key} is described twice")
        return _Storage(key, np.broadcast_to(np.zeros((), _code(kind)), (count,)))

    first = _Pickle(data, note, place)
    first.load()
    keys_pickle = _Pickle(data, no_storage, first.place)
    keys = keys_pickle.load()
    end = keys_pickle.place
    storages = {}
    for key in keys:
        if type(key) is not str:
            raise ValueError("the storages' keys are no text")
        kind, count = kinds[key]
        (written,) = struct.unpack_from("<q", data, end)
        size = count * (2 if STORAGES[kind] == "bf16" else np.dtype(STORAGES[kind]).itemsize)
        if written not in (count, size):  # an untyped storage counts bytes
            raise ValueError(f"storage {key} has {written} elements, not {count}")
        raw = data[end + 8 : end + 8 + size]
        storages[key] = _Storage(key, _elements(raw, kind, count))
        end += 8 + size
    return _Pickle(data, lambda kind, key, count: storages[key], place).load()


def _code(kind: str) -> str:
    return "<f4" if STORAGES[kind] == "bf16" else STORAGES[kind]


def _elements(raw: bytes, kind: str, count: int) -> NDArray:
    code = STORAGES[kind]
    elements = np.frombuffer(raw, "<u2" if code == "bf16" else code)
    if len(elements) < count or count < 0:
        raise ValueError(f"a storage has {len(elements)} elements, not {count}")
    if code == "bf16":
        elements = (elements.astype("<u4") << 16).view("<f4")
        elements.flags.writeable = False
    return elements[:count]


def _tensor(
    storage: Any, offset: Any, sizes: Any, strides: Any, dtype: _Global | None = None
) -> NDArray:
    """Return the view of a storage that a tensor is."""
    if not isinstance(storage, _Storage):
        raise _Refused("a tensor without a storage")
    elements = storage.elements
    if dtype is not None:
        if dtype.module != "torch" or dtype.name not in UNTYPED:
            raise _Refused(f"the dtype {dtype} is not read here")
        elements = _viewed(elements, UNTYPED[dtype.name])
    if len(sizes) != len(strides) or len(sizes) > MAX_DIMENSIONS:
        raise ValueError(f"a tensor has {len(sizes)} sizes and {len(strides)} strides")
    if not all(type(n) is int and 0 <= n < 1 << 63 for n in (offset, *sizes, *strides)):
        raise ValueError("a tensor's sizes and strides are not numbers")
    if math.prod(sizes) >= 1 << 62:
        raise ValueError(f"a tensor of sizes {sizes} is too large")
    if 0 not in sizes:
        last = offset + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
        if last >= len(elements):
            raise ValueError(f"a tensor reaches element {last} of {len(elements)}")
    elif offset > len(elements):
        raise ValueError(f"a tensor begins at element {offset} of {len(elements)}")
    steps = [step * elements.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(elements[offset:], sizes, steps, writeable=False)


def _size(sizes: Any) -> tuple[Any, ...]:
    if type(sizes) not in (tuple, list):
        raise ValueError("a size that is no list of numbers")
    return tuple(sizes)


def _viewed(elements: NDArray, code: str) -> NDArray:
    """Return bytes as another type; first-pass placeholders have no bytes."""
    if elements.strides == (0,):
        count = elements.nbytes // np.dtype(code).itemsize
        return np.broadcast_to(np.zeros((), code), (count,))
    return elements.view(code)


def _dictionary(items: Iterable[Any]) -> dict[str | int, Any]:
    found = {}
    for key, value in items:
        # Hashing a tuple of tuples of tuples and so on would overflow Python's stack.
        if type(key) not in (str, int):
            raise _Refused(f"a dictionary has a {type(key).__name__} as a key")
        found[key] = value
    return found


#: What a pickle of tensors may call.
_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": lambda items=(): _dictionary(items),
    "torch.Size": lambda sizes=(): _size(sizes),
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": lambda storage, offset, sizes, strides, *_: _tensor(
        storage, offset, sizes, strides
    ),
    "torch._utils._rebuild_tensor_v3": lambda storage, offset, sizes, strides, _, __, dtype, *___: (
        _tensor(storage, offset, sizes, strides, dtype)
    ),
    "torch._utils._rebuild_parameter": lambda data, *_: data,
}

_MARK = object()


class _Pickle:
    """One pickle, and the place in the bytes after it.

    Args:
        data: bytes.
        storage: gives the storage of a class's name, a key and a number of elements.
        place: where the pickle begins.
    """

    def __init__(
        self, data: bytes, storage: Callable[[str, str, int], _Storage], place: int = 0
    ) -> None:
        self.data, self.storage, self.place = data, storage, place
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.handed_over = 0

    def load(self) -> Any:
        """Return what the pickle holds."""
        while True:
            code = self._take(1)
            if code == b".":
                (value,) = self.stack
                return value
            step = _OPCODES.get(code)
            if step is None:
                raise _Refused(f"its pickle has the instruction {code!r}")
            step(self)

    def _take(self, size: int) -> bytes:
        if not 0 <= size <= len(self.data) - self.place:
            raise EOFError("a pickle ends early")
        self.place += size
        return self.data[self.place - size : self.place]

    def _number(self, code: str) -> Any:
        return struct.unpack(code, self._take(struct.calcsize(code)))[0]

    def _check_protocol(self) -> None:
        protocol = self._number("<B")
        if protocol > PICKLE_PROTOCOL:
            raise ValueError(f"a pickle's protocol is {protocol}")

    def _line(self) -> str:
        end = self.data.index(b"\n", self.place)
        return self._take(end + 1 - self.place)[:-1].decode()

    def _sized(self, code: str) -> bytes:
        return self._take(self._number(code))

    def _push(self, value: Any) -> None:
        self.stack.append(value)

    def _marked(self) -> list[Any]:
        """Take what is above the last mark, and the mark, off the stack."""
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise ValueError("a pickle has no mark")
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def _top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise _Refused(f"a {type(self.stack[-1]).__name__} where a {kind.__name__} should be")
        return self.stack[-1]

    def _tuple(self, count: int) -> None:
        values = tuple(self.stack[len(self.stack) - count :])
        if len(values) < count or any(value is _MARK for value in values):
            raise ValueError("a pickle's stack is too short")
        del self.stack[len(self.stack) - count :]
        self._push(values)

    def _set_items(self, values: list[Any]) -> None:
        self._top(dict).update(_dictionary(zip(values[::2], values[1::2], strict=True)))

    def _append(self, values: list[Any]) -> None:
        self._top(list).extend(values)

    def _global(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise ValueError("a name that is no text")
        self._push(_Global(module, name))

    def _reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Global):
            raise _Refused(f"it calls a {type(function).__name__}")
        if str(function) not in _CALLS:
            raise _Refused(f"it calls {function}, which no tensor needs; save net.state_dict()")
        if type(arguments) is not tuple:
            raise ValueError("a call without arguments")
        # What is handed over took a byte of the pickle at least, once.
        self.handed_over += sum(len(a) for a in arguments if type(a) in (list, tuple, dict))
        if self.handed_over > len(self.data):
            raise ValueError("a pickle hands over the same again and again")
        self._push(_CALLS[str(function)](*arguments))

    def _object(self) -> None:
        """Refuse an object, whose class would have to be called; a whole net is one."""
        kinds = [value for value in self.stack[-3:] if isinstance(value, _Global)]
        raise _whole_net(str(kinds[-1]) if kinds else "a class")

    def _build(self) -> None:
        """Take off the attributes of an ordered dictionary, such as the modules' versions."""
        self.stack.pop()
        self._top(dict)

    def _persistent(self) -> None:
        what, kind, *_ = reference = self.stack.pop()
        if what == "module" and isinstance(kind, _Global):
            raise _whole_net(str(kind))
        _, _, key, _, count, *view = reference
        if type(what) is not str or not isinstance(kind, _Global):
            raise ValueError("a reference to something else than a storage")
        if what != "storage" or kind.name not in STORAGES:
            raise _Refused(f"it refers to {what!r} of {kind}")
        if kind.module not in ("torch", "torch.storage", "torch.cuda") or view not in ([], [None]):
            raise _Refused(f"its storages are of {kind}, or views")
        if type(key) is not str or type(count) is not int or count < 0:
            raise ValueError("a storage's key is no text, or its elements no number")
        self._push(self.storage(kind.name, key, count))

    def _remember(self, place: int) -> None:
        self.memo[place] = self.stack[-1]


_OPCODES: dict[bytes, Callable[[_Pickle], Any]] = {
    b"\x80": lambda p: p._check_protocol(),
    b"\x95": lambda p: p._take(8),  # frame
    b"(": lambda p: p._push(_MARK),
    b"0": lambda p: p.stack.pop(),
    b"1": lambda p: p._marked(),
    b"N": lambda p: p._push(None),
    b"\x88": lambda p: p._push(True),
    b"\x89": lambda p: p._push(False),
    b"J": lambda p: p._push(p._number("<i")),
    b"K": lambda p: p._push(p._number("<B")),
    b"M": lambda p: p._push(p._number("<H")),
    b"\x8a": lambda p: p._push(int.from_bytes(p._sized("<B"), "little", signed=True)),
    b"G": lambda p: p._push(p._number(">d")),
    b"X": lambda p: p._push(p._sized("<I").decode()),
    b"\x8c": lambda p: p._push(p._sized("<B").decode()),
    b"\x8d": lambda p: p._push(p._sized("<Q").decode()),
    b"U": lambda p: p._push(p._sized("<B").decode()),
    b"T": lambda p: p._push(p._sized("<i").decode()),
    b"C": lambda p: p._push(p._sized("<B")),
    b"B": lambda p: p._push(p._sized("<I")),
    b"}": lambda p: p._push({}),
    b"]": lambda p: p._push([]),
    b")": lambda p: p._push(()),
    b"t": lambda p: p._push(tuple(p._marked())),
    b"\x85": lambda p: p._tuple(1),
    b"\x86": lambda p: p._tuple(2),
    b"\x87": lambda p: p._tuple(3),
    b"s": lambda p: p._set_items([p.stack.pop(-2), p.stack.pop()]),
    b"u": lambda p: p._set_items(p._marked()),
    b"a": lambda p: p._append([p.stack.pop()]),
    b"e": lambda p: p._append(p._marked()),
    b"q": lambda p: p._remember(p._number("<B")),
    b"r": lambda p: p._remember(p._number("<I")),
    b"p": lambda p: p._remember(int(p._line())),
    b"\x94": lambda p: p._remember(len(p.memo)),
    b"h": lambda p: p._push(p.memo[p._number("<B")]),
    b"j": lambda p: p._push(p.memo[p._number("<I")]),
    b"g": lambda p: p._push(p.memo[int(p._line())]),
    b"c": lambda p: p._global(p._line(), p._line()),
    b"\x93": lambda p: p._global(p.stack.pop(-2), p.stack.pop()),
    b"R": lambda p: p._reduce(),
    b"\x81": lambda p: p._object(),
    b"\x92": lambda p: p._object(),
    b"b": lambda p: p._build(),
    b"Q": lambda p: p._persistent(),
}
