"""Read pickles that describe tensors, in bounded memory and time, and without running their code.

Python's unpickler reads them, after a scan of their instructions. Its `find_class` knows the few
names that tensors need and refuses all others. The result has descriptions in the place of tensors,
whose values lie outside of the pickle.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable
from typing import Any, NamedTuple

#: Limits: instructions of a pickle, of which a tensor takes about 45; values in a tuple, with those
#: in its nested tuples.
MAX_INSTRUCTIONS, MAX_TUPLE = 1 << 18, 256
#: The codes of the instructions that picklers write for containers, numbers, texts and calls.
INSTRUCTIONS = frozenset(
    "\x80\x95.(01N\x88\x89JKM\x8aGX\x8c\x8dUTCB})]t\x85\x86\x87suaeqr\x94hjc\x93R\x81bQ"
)
#: The only number of more than 64 bits that is read: larger numbers can be made to have equal
#: hashes, which would make a dictionary of them slow.
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
#: Dimensions of a tensor: NumPy's own limit.
MAX_DIMENSIONS = 32
#: PyTorch's storage classes to NumPy's type codes.
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
#: PyTorch's dtypes that have no storage class to NumPy's type codes.
UNTYPED = {"uint16": "<u2", "uint32": "<u4", "uint64": "<u8"}


class Refused(Exception):
    """Raised for a pickle that holds something other than tensors in plain containers."""


class Storage(NamedTuple):
    """A storage of numbers: NumPy's type code or ``"bf16"``, key, number of elements."""

    code: str
    key: str
    size: int


class Tensor(NamedTuple):
    """A tensor, described as a view of a storage; offset and strides are numbers of elements."""

    storage: Storage
    offset: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    code: str


class Unpickler(pickle.Unpickler):
    """Reads one pickle from a file's current position, and moves the position to its end.

    Attributes:
        storages: dictionary of each key to the storage that the pickle refers to.

    Raises:
        Refused: the pickle holds something other than tensors in plain containers.
        Exception: the pickle is damaged.
    """

    def __init__(self, file: io.BytesIO) -> None:
        start = file.tell()
        _scan(file)
        size = file.tell() - start
        file.seek(start)
        super().__init__(io.BytesIO(file.read(size)), encoding="utf-8")
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return a substitute for a class or function that a pickle names; import nothing."""
        if f"{module}.{name}" in _FUNCTIONS:
            return _FUNCTIONS[f"{module}.{name}"]
        if module in ("torch", "torch.storage", "torch.cuda") and name in STORAGES | UNTYPED:
            return (STORAGES | UNTYPED)[name]
        raise Refused(
            f"it needs the class or function {module}.{name}, and code is not run here. Save the "
            "tensors alone: torch.save(net.state_dict(), path)"
        )

    def persistent_load(self, pid: Any) -> Storage:
        """Return the storage that a persistent id of a pickle refers to."""
        if type(pid) is not tuple or pid[:1] != ("storage",) or pid[5:] not in ((), (None,)):
            raise Refused("it refers to something other than a storage")
        _, code, key, _, size = pid[:5]
        if code not in STORAGES.values() or type(key) is not str or type(size) is not int:
            raise ValueError("a storage's key is no text, or its size no number")
        storage = Storage(code, key, size)
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError(f"storage {key} is described twice")
        return storage


def _scan(file: io.BytesIO) -> None:
    """Raise an exception for a pickle that would take much memory or time to read.

    The unpickler's stack is simulated. In the place of each object it has the number of values in
    nested tuples: hashing a tuple, as a dictionary's key, takes time in proportion to that.
    """
    stack: list[int] = []
    below_marks: list[list[int]] = []
    memo: dict[int, int] = {}
    for number, (op, arg, _) in enumerate(pickletools.genops(file)):
        if op.code not in INSTRUCTIONS or number > MAX_INSTRUCTIONS:
            raise Refused(f"its pickle is too long, or has the instruction {op.name}")
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


def _tensor(storage: Any, offset: Any, sizes: Any, strides: Any, code: Any = "") -> Tensor:
    if type(storage) is not Storage:
        raise Refused("a tensor has no storage")
    sizes, strides = _sizes(sizes), _sizes(strides)
    if len(sizes) != len(strides) or type(offset) is not int or offset < 0:
        raise ValueError(f"a tensor has {len(sizes)} sizes and {len(strides)} strides")
    if math.prod(sizes) >= 1 << 62:
        raise ValueError(f"a tensor of sizes {sizes} is too large")
    if code not in ("", *UNTYPED.values()):
        raise Refused(f"a tensor has the dtype {code!r:.60}")
    return Tensor(storage, offset, sizes, strides, code or storage.code)


def _sizes(sizes: Any = ()) -> tuple[int, ...]:
    if type(sizes) not in (tuple, list) or len(sizes) > MAX_DIMENSIONS:
        raise ValueError("a tensor has no sizes")
    if not all(type(n) is int and 0 <= n < 1 << 63 for n in sizes):
        raise ValueError("a tensor's sizes and strides are not numbers")
    return tuple(sizes)


def _parameter(data: Any, *_: Any) -> Tensor:
    if type(data) is not Tensor:
        raise Refused("a parameter has no tensor")
    return data


class _Dictionary(dict[Any, Any]):
    """Replaces an OrderedDict in a pickle; attributes that the pickle sets are ignored."""

    def __setstate__(self, state: Any) -> None:
        pass


def _dictionary(items: Any = None) -> _Dictionary:
    if items is not None and type(items) is not list:
        raise Refused("an OrderedDict is made of no list")
    dictionary = _Dictionary(items or ())
    if items:
        items.clear()  # so that a pickle cannot pass the same list again and again
    return dictionary


class _Function:
    """Takes the place of a function in a pickle, which may call it but not set its attributes."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.call = function

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise Refused("it sets attributes of a function")


#: The functions that a pickle may call, by the name under which the pickle calls them.
_FUNCTIONS = {
    "collections.OrderedDict": _Function(_dictionary),
    "torch.Size": _Function(_sizes),
    "torch._utils._rebuild_tensor": _Function(_tensor),
    "torch._utils._rebuild_tensor_v2": _Function(lambda *args: _tensor(*args[:4])),
    "torch._utils._rebuild_tensor_v3": _Function(lambda *args: _tensor(*(*args[:4], args[6]))),
    "torch._utils._rebuild_parameter": _Function(_parameter),
}
