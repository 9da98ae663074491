"""PyTorch's state dicts without torch: what torch saves is read, what is hostile is refused."""

from __future__ import annotations

import collections
import os
import pickle
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertnli.errors import CheckpointError
from bertnli.formats.state_dict import read_state_dict

FIXTURES = Path(__file__).parent.parent / "fixtures"
FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
DTYPES = [
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32),
    *(torch.int16, torch.int8, torch.uint8, torch.bool),
]


def assert_as_torch_reads(path: Path) -> None:
    expected = torch.load(path, weights_only=True)
    found = read_state_dict(path)
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        tensor = tensor.detach().float() if tensor.dtype == torch.bfloat16 else tensor.detach()
        array = found[name]
        assert (array.dtype, array.shape) == (tensor.numpy().dtype, tuple(tensor.shape)), name
        assert array.tobytes() == tensor.numpy().tobytes(), name


@FORMATS
def test_every_dtype(tmp_path: Path, zipped: bool) -> None:
    state = {str(dtype): (torch.randn(3, 4) * 9).to(dtype) for dtype in DTYPES}
    if zipped:
        state |= {"u": torch.arange(5).to(torch.uint16)}
    torch.save(state, tmp_path / "p", _use_new_zipfile_serialization=zipped)
    assert_as_torch_reads(tmp_path / "p")


@FORMATS
def test_views_of_storages(tmp_path: Path, zipped: bool) -> None:
    base = torch.arange(60.0).view(3, 4, 5)
    state = collections.OrderedDict(
        whole=base,
        transposed=base.transpose(0, 2),
        sliced=base[1:, ::2, 1:4],
        expanded=torch.ones(3, 1).expand(3, 7),
        scalar=torch.tensor(2.5),
        empty=torch.empty(0, 3),
        parameter=torch.nn.Parameter(torch.ones(2)),
        half=base[0].bfloat16()[1:],
    )
    torch.save(state, tmp_path / "p", _use_new_zipfile_serialization=zipped)
    assert_as_torch_reads(tmp_path / "p")
    found = read_state_dict(tmp_path / "p")
    assert np.shares_memory(found["whole"], found["transposed"])


@FORMATS
def test_a_module_s_state_dict(tmp_path: Path, zipped: bool) -> None:
    """It has the modules' versions as an attribute."""
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    torch.save(net.state_dict(), tmp_path / "p", _use_new_zipfile_serialization=zipped)
    assert_as_torch_reads(tmp_path / "p")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickle_protocols(tmp_path: Path, protocol: int) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "p", pickle_protocol=protocol)
    found = read_state_dict(tmp_path / "p")
    assert found["a"].tolist() == [1, 1]


def test_the_book_s_file_is_read_as_torch_reads_it() -> None:
    path = FIXTURES / "torch" / "bert.tiny" / "pretrained.params"
    found, expected = read_state_dict(path), torch.load(path, weights_only=True)
    assert list(found) == list(expected)
    for name, array in found.items():
        assert array.tobytes() == expected[name].numpy().tobytes(), name


def test_torch_is_not_imported() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'mxnet'): sys.modules[name] = None\n"
        "from bertnli.formats.state_dict import read_state_dict\n"
        f"print(len(read_state_dict({str(FIXTURES / 'torch/bert.tiny/pretrained.params')!r})))\n"
    )
    out = processes.run([sys.executable, "-c", code])
    assert out.returncode == 0, out.stderr
    assert int(out.stdout) == 45


# What is refused


class _Runs:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


@FORMATS
def test_code_is_not_run(tmp_path: Path, zipped: bool) -> None:
    state = {"a": torch.ones(2), "b": _Runs(tmp_path / "marker")}
    torch.save(state, tmp_path / "p", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="mkdir"):
        read_state_dict(tmp_path / "p")
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([torch.ones(2)], "list"),
        ({"a": torch.ones(2), "epoch": 3}, "epoch is a int"),
        ({"net": {"a": torch.ones(2)}}, "net is a dict"),
        ({1: torch.ones(2)}, "1 is a ndarray"),
        ({(1, 2): torch.ones(2)}, "tuple as a key"),
        ({"a": torch.ones(2).to_sparse()}, "_get_layout"),
        ({"state_dict": {"a": torch.ones(2)}, "model_state_dict": {}}, "state_dict is a dict"),
        ({"state_dict": {"a": 1}}, "a is a int"),
    ],
)
def test_what_is_no_state_dict_is_named(tmp_path: Path, value: Any, message: str) -> None:
    torch.save(value, tmp_path / "p")
    with pytest.raises(CheckpointError, match=message):
        read_state_dict(tmp_path / "p")


class _Net(torch.nn.Module):
    """A class of the user's, which nothing here knows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)


@FORMATS
def test_a_whole_net_is_refused_with_what_to_save(tmp_path: Path, zipped: bool) -> None:
    torch.save(_Net(), tmp_path / "p", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"class \S*_Net.*save\(net\.state_dict\(\), path\)"):
        read_state_dict(tmp_path / "p")


@FORMATS
@pytest.mark.parametrize("key", ["state_dict", "model_state_dict"])
def test_a_training_checkpoint_holds_a_state_dict(tmp_path: Path, zipped: bool, key: str) -> None:
    net = torch.nn.Linear(2, 3)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(2)).sum().backward()
    optimizer.step()
    checkpoint = {
        "epoch": 3,
        "global_step": 70,
        "pytorch-lightning_version": "2.1.0",
        "optimizer_states": [optimizer.state_dict()],
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.ones(())}},
        key: net.state_dict(),
    }
    torch.save(checkpoint, tmp_path / "p", _use_new_zipfile_serialization=zipped)
    found = read_state_dict(tmp_path / "p")
    assert list(found) == ["weight", "bias"]
    assert np.array_equal(found["weight"], net.weight.detach().numpy())


def _zip_of(path: Path, data_pkl: bytes, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("p/data.pkl", data_pkl)
        for name, content in entries.items():
            archive.writestr(f"p/data/{name}", content)
    return path


def _tensor_pickle(count: bytes, offset: bytes, shape: bytes) -> bytes:
    """A dictionary of one tensor; the numbers, the sizes and the strides are instructions."""
    storage = b"(U\x07storagectorch\nFloatStorage\nU\x01kU\x03cpu" + count + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + shape + b"\x89}tR"
    return b"\x80\x02}U\x01a" + tensor + b"s."


@pytest.mark.parametrize(
    ("count", "offset", "shape"),
    [
        (b"K\x04", b"K\x01", b"K\x04\x85K\x01\x85"),  # reaches beyond the end
        (b"K\x04", b"K\x00", b"K\x02\x85J\xff\xff\xff\xff\x85"),  # a negative stride
        (b"K\x04", b"J\xff\xff\xff\xff", b"K\x02\x85K\x01\x85"),  # a negative offset
        (b"K\x05", b"K\x00", b"K\x02\x85K\x01\x85"),  # more elements than bytes
        (b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"K\x00", b"K\x02\x85K\x01\x85"),
        (b"K\x04", b"K\x00", b"\x8a\x09" + b"\xff" * 8 + b"\x00\x85K\x00\x85"),  # endless
    ],
)
def test_tensors_outside_of_their_storage(
    tmp_path: Path, count: bytes, offset: bytes, shape: bytes
) -> None:
    good = _zip_of(
        tmp_path / "p", _tensor_pickle(b"K\x04", b"K\x01", b"K\x03\x85K\x01\x85"), k=bytes(16)
    )
    assert read_state_dict(good)["a"].tolist() == [0, 0, 0]
    bad = _zip_of(tmp_path / "q", _tensor_pickle(count, offset, shape), k=bytes(16))
    with pytest.raises(CheckpointError):
        read_state_dict(bad)


@pytest.mark.parametrize(
    "data_pkl",
    [
        b"",
        b".",
        b"\x80\x02]" + b"r\xff\xff\xff\xff" + b".",  # a huge memo
        b"\x80\x02)" + b"\x85" * 200_000 + b"}h\x00.",  # deep tuples
        b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.",  # a deep tuple as a key
        b"\x80\x02ccollections\nOrderedDict\n((" + b")" + b"\x85" * 200_000 + b"K\x01ttR.",
        b"\x80\x02X\xff\xff\xff\x7fabc.",  # a huge text
        b"\x80\x04\x8d" + b"\xff" * 8 + b"abc.",
        b"\x80\x02" + b"(" * 100_000 + b"t" * 50_000 + b".",
        b"\x80\x02}\x85" + b"h\x05.",
        pickle.dumps({"a": 1 << 4000}),
    ],
)
def test_hostile_pickles(tmp_path: Path, data_pkl: bytes) -> None:
    path = _zip_of(tmp_path / "p", data_pkl)
    tracemalloc.start()
    with pytest.raises(CheckpointError):
        read_state_dict(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6


@settings(
    deadline=None,
    max_examples=400,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(zipped=st.booleans(), data=st.data())
def test_damaged_files(tmp_path: Path, damage: Any, zipped: bool, data: st.DataObject) -> None:
    """Flips, cuts and huge numbers: an error, or arrays within what the file holds."""
    state = {"a": torch.ones(3, 4), "b": torch.arange(5)[1:], "c": torch.zeros(2, 1).bfloat16()}
    torch.save(state, tmp_path / "p", _use_new_zipfile_serialization=zipped)
    raw = damage(data, (tmp_path / "p").read_bytes())
    (tmp_path / "p").write_bytes(raw)
    try:
        found = read_state_dict(tmp_path / "p")
    except CheckpointError:
        return
    for array in found.values():
        own = [(n - 1) * step for n, step in zip(array.shape, array.strides, strict=True)]
        assert array.size == 0 or sum(own) + array.itemsize <= 2 * len(raw)
