"""PyTorch's state dicts without torch: what torch saves is read, what is hostile is refused."""

import collections
import os
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import refused

from bertnli.errors import CheckpointError
from bertnli.formats.pickles import MAX_TUPLE
from bertnli.formats.state_dict import read_state_dict

BOTH_FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
DTYPES = [
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32),
    *(torch.int16, torch.int8, torch.uint8, torch.bool),
]


def save(path, value, zipped=True):
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


def assert_as_torch_reads(path):
    expected = torch.load(path, weights_only=True)
    arrays = read_state_dict(path)
    assert list(arrays) == list(expected)
    for name, tensor in expected.items():
        tensor = tensor.detach().float() if tensor.dtype == torch.bfloat16 else tensor.detach()
        array = arrays[name]
        assert (array.dtype, array.shape) == (tensor.numpy().dtype, tuple(tensor.shape)), name
        assert array.tobytes() == tensor.numpy().tobytes(), name


@BOTH_FORMATS
def test_every_dtype(tmp_path, zipped):
    state = {str(dtype): (torch.randn(3, 4) * 9).to(dtype) for dtype in DTYPES}
    if zipped:
        state |= {"u": torch.arange(5).to(torch.uint16)}
    assert_as_torch_reads(save(tmp_path / "p", state, zipped))


@BOTH_FORMATS
def test_views_of_storages(tmp_path, zipped):
    base = torch.arange(60.0).view(3, 4, 5)
    state = collections.OrderedDict(
        whole=base,
        transposed=base.transpose(0, 2),
        sliced=base[1:, ::2, 1:4],
        expanded=torch.ones(3, 1).expand(3, 7),
        scalar=torch.tensor(2.5),
        empty=torch.empty(0, 3),
        parameter=torch.nn.Parameter(torch.ones(2)),
        trained=torch.ones(2, requires_grad=True),
        half=base[0].bfloat16()[1:],
    )
    assert_as_torch_reads(save(tmp_path / "p", state, zipped))
    arrays = read_state_dict(tmp_path / "p")
    assert np.shares_memory(arrays["whole"], arrays["transposed"])
    assert not any(array.flags.writeable for array in arrays.values())


@BOTH_FORMATS
def test_a_module_s_state_dict(tmp_path, zipped):
    """A state dict has the versions of its modules as an attribute."""
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    assert_as_torch_reads(save(tmp_path / "p", net.state_dict(), zipped))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickle_protocols(tmp_path, protocol):
    torch.save({"a": torch.ones(2)}, tmp_path / "p", pickle_protocol=protocol)
    assert read_state_dict(tmp_path / "p")["a"].tolist() == [1, 1]


@BOTH_FORMATS
@pytest.mark.parametrize("key", ["state_dict", "model_state_dict"])
def test_a_training_checkpoint_holds_a_state_dict(tmp_path, zipped, key):
    net = torch.nn.Linear(2, 3)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(2)).sum().backward()
    optimizer.step()
    checkpoint = {"epoch": 3, "pytorch-lightning_version": "2.1.0", key: net.state_dict()}
    checkpoint["optimizer_states"] = [optimizer.state_dict()]
    checkpoint["callbacks"] = {"ModelCheckpoint{'monitor': None}": {"best": torch.ones(())}}
    arrays = read_state_dict(save(tmp_path / "p", checkpoint, zipped))
    assert list(arrays) == ["weight", "bias"]
    assert np.array_equal(arrays["weight"], net.weight.detach().numpy())


# What is refused


class _Runs:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


class _Net(torch.nn.Linear):
    """A class that only this test module defines."""


@BOTH_FORMATS
def test_code_is_not_run(tmp_path, zipped):
    state = {"a": torch.ones(2), "b": _Runs(tmp_path / "marker")}
    refused(CheckpointError, "mkdir", read_state_dict, save(tmp_path / "p", state, zipped))
    (tmp_path / "p").write_bytes(pickle.dumps(_Runs(tmp_path / "marker")))
    refused(CheckpointError, "mkdir", read_state_dict, tmp_path / "p")
    assert not (tmp_path / "marker").exists()
    with pytest.raises(CheckpointError, match=r"\._Net, .*save\(net\.state_dict\(\), path\)"):
        read_state_dict(save(tmp_path / "p", _Net(2, 2), zipped))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([torch.ones(2)], "list"),
        ({"a": torch.ones(2), "epoch": 3}, "'epoch' is a int"),
        ({"net": {"a": torch.ones(2)}}, "'net' is a dict"),
        ({1: torch.ones(2)}, "1 is a "),
        ({(1, 2): torch.ones(2)}, r"\(1, 2\) is a "),
        ({"a": torch.ones(2).to_sparse()}, "sparse"),
        ({"state_dict": {"a": torch.ones(2)}, "model_state_dict": {}}, "'state_dict' is a dict"),
        ({"state_dict": {"a": 1}}, "'a' is a int"),
    ],
)
def test_what_is_no_state_dict_is_named(tmp_path, value, message):
    refused(CheckpointError, message, read_state_dict, save(tmp_path / "p", value))


def zip_of(path, data_pkl, **entries):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("p/data.pkl", data_pkl)
        for name, content in entries.items():
            archive.writestr(f"p/data/{name}", content)
    return path


def tensor_pickle(count, offset, shape):
    """Make a pickle of one tensor; the arguments are pickle instructions that push their values."""
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
def test_tensors_outside_of_their_storage(tmp_path, count, offset, shape):
    good = tensor_pickle(b"K\x04", b"K\x01", b"K\x03\x85K\x01\x85")
    assert read_state_dict(zip_of(tmp_path / "p", good, k=bytes(16)))["a"].tolist() == [0, 0, 0]
    bad = zip_of(tmp_path / "q", tensor_pickle(count, offset, shape), k=bytes(16))
    with pytest.raises(CheckpointError):
        read_state_dict(bad)


#: Takes a tuple of the name 0, and makes one of it twice, forty times.
NEST = b"K\x01q\x00" + b"0h\x00h\x00\x86q\x00" * 40 + b"h\x00"
LIST, SIZE = b"(" + b"K\x01" * 5000 + b"lq\x02", b"ctorch\nSize\nq\x01"
FUNCTION = b"ctorch._utils\n_rebuild_tensor\n"


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
        b"\x80\x04\x95" + b"\xff" * 7 + b"\x7f}.",  # a huge frame
        b"\x80\x02" + b"(" * 100_000 + b"t" * 50_000 + b".",
        b"\x80\x02}\x85" + b"h\x05.",
        b"\x80\x02}" + NEST + b"K\x01s.",  # 2^40 values in a key
        b"\x80\x02K\x01" + b"2\x86" * 60 + b".",
        b"\x80\x02" + SIZE + b"(" + b"K\x01" * (MAX_TUPLE + 9) + b"tq\x02\x85R.",
        b"\x80\x02" + SIZE + LIST + b"0" + b"h\x01h\x02\x85R0" * 5000 + b"N.",
        b"\x80\x02" + FUNCTION + b"}U\x01aK\x01sb.",  # attributes of a function
        b"\x80\x02" + FUNCTION + b"N}U\x0c__defaults__)s\x86b.",
        b"\x80\x02csubprocess\nPopen\n)\x81}b.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93(X\x04\x00\x00\x00truetR.",
        b"(ios\nsystem\n.",
        b"\x80\x02\x82\x01.",  # the registry of extensions
        b"\x80\x02ctorch\nload\nU\x04path\x85R.",
        pickle.dumps({"a": 1 << 4000}),
        b"\x80\x02}(" + b"\x8a\x09" + b"\xff" * 8 + b"\x01Nu.",  # numbers can have equal hashes
    ],
)
def test_hostile_pickles(tmp_path, data_pkl):
    path = zip_of(tmp_path / "p", data_pkl)
    tracemalloc.start()
    with pytest.raises(CheckpointError):
        read_state_dict(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_the_book_s_file(fixtures):
    """The hostile pickles above must not have changed how a good file is read."""
    assert_as_torch_reads(fixtures / "torch" / "bert.tiny" / "pretrained.params")


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(zipped=st.booleans(), data=st.data())
def test_damaged_files_are_read_as_torch_reads_them(tmp_path, damage, zipped, data):
    """Flips, cuts and huge numbers: an error, or what torch makes of the file, if it opens it."""
    state = {"a": torch.ones(3, 4), "b": torch.arange(5)[1:], "c": torch.zeros(2, 1).bfloat16()}
    path = save(tmp_path / "p", state, zipped)
    path.write_bytes(damage(data, path.read_bytes()))
    try:
        arrays = read_state_dict(path)
    except CheckpointError:
        return
    for array in arrays.values():
        steps = [(n - 1) * step for n, step in zip(array.shape, array.strides, strict=True)]
        assert array.size == 0 or sum(steps) + array.itemsize <= 2 * len(path.read_bytes())
    try:
        torch.load(path, weights_only=True)
    except Exception:
        return
    assert_as_torch_reads(path)
