"""MXNet's .params files without MXNet: read, written, and damaged in every way."""

import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bertnli.errors import CheckpointError
from bertnli.formats.params import (
    BFLOAT16,
    DTYPES,
    LIST_MAGIC,
    V1,
    V2,
    V3,
    read_params,
    write_params,
)

ANY_ARRAY = hnp.arrays(
    st.sampled_from([np.dtype(code) for flag, code in DTYPES.items() if flag != BFLOAT16]),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
)
SAME_FILE = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=30,
)
CPU, FLOAT32 = struct.pack("<ii", 1, 0), struct.pack("<i", 0)


def file_of(path, *arrays, names=()):
    """A file of arrays that are bytes already."""
    parts = [
        struct.pack("<QQQ", LIST_MAGIC, 0, len(arrays)),
        *arrays,
        struct.pack("<Q", len(names)),
    ]
    parts += [struct.pack("<Q", len(name)) + name for name in names]
    path.write_bytes(b"".join(parts))
    return path


def assert_same(actual, expected):
    assert type(actual) is type(expected)
    if isinstance(actual, dict):
        assert list(actual) == list(expected)
        actual, expected = list(actual.values()), list(expected.values())
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


@SAME_FILE
@given(
    st.dictionaries(
        st.text(max_size=20).filter(lambda t: t[:4] not in ("arg:", "aux:")), ANY_ARRAY, max_size=4
    )
)
def test_round_trip_with_names(tmp_path, arrays):
    write_params(tmp_path / "p", arrays)
    assert_same(read_params(tmp_path / "p"), arrays or [])


@SAME_FILE
@given(st.lists(ANY_ARRAY, max_size=4))
def test_round_trip_without_names(tmp_path, arrays):
    write_params(tmp_path / "p", arrays)
    assert_same(read_params(tmp_path / "p"), arrays)


def test_old_layouts(tmp_path):
    values = np.arange(6, dtype="<f4").reshape(2, 3)
    shape64, shape32 = struct.pack("<i2q", 2, 2, 3), struct.pack("<3I", 2, 2, 3)
    rest = CPU + FLOAT32 + values.tobytes()
    layouts = [
        struct.pack("<Ii", V3, 0) + shape64,
        struct.pack("<Ii", V2, 0) + shape64,
        struct.pack("<I", V1) + shape64,
        shape32,
    ]
    path = file_of(tmp_path / "p", *(layout + rest for layout in layouts))
    assert_same(read_params(path), [values] * 4)


def test_prefixes_of_exported_symbols_are_taken_off(tmp_path):
    write_params(tmp_path / "p", {"arg:fc.weight": np.ones(2), "aux:mean": np.zeros(3)})
    assert list(read_params(tmp_path / "p")) == ["fc.weight", "mean"]


def test_bfloat16_becomes_float32(tmp_path):
    values = np.array([1.0, -2.5, 3e38, np.inf], "<f4")
    halves = (values.view("<u4") >> 16).astype("<u2")
    array = struct.pack("<Iii q", V2, 0, 1, 4) + CPU + struct.pack("<i", BFLOAT16)
    actual = read_params(file_of(tmp_path / "p", array + halves.tobytes()))
    assert_same(actual, [(halves.astype("<u4") << 16).view("<f4")])
    np.testing.assert_allclose(actual[0], values, rtol=2**-7)


@pytest.mark.parametrize(
    ("array", "names", "message"),
    [
        (struct.pack("<Ii", V2, 1) + b"\0" * 40, (), "row_sparse"),
        (struct.pack("<Ii", V2, 2) + b"\0" * 40, (), "csr"),
        (struct.pack("<Iii", V2, 0, 0), (), "no value"),
        (struct.pack("<Iii", V3, 0, -1), (), "no value"),
        (struct.pack("<Iii", V3, 0, 40) + b"\0" * 400, (), "40 dimensions"),
        (struct.pack("<Iii2q", V2, 0, 2, 1 << 40, 1 << 40) + CPU + FLOAT32, (), "bytes"),
        (struct.pack("<Iiiq", V2, 0, 1, -1) + CPU + FLOAT32, (), "shape"),
        (struct.pack("<Iiiq", V2, 0, 1, 1) + CPU + struct.pack("<i", 99), (), "dtype 99"),
        (struct.pack("<Iiiq", V2, 0, 1, 1) + CPU + FLOAT32 + b"\0" * 4, (b"\xff",), "utf-8"),
        (struct.pack("<Iiiq", V2, 0, 1, 1) + CPU + FLOAT32 + b"\0" * 4, (b"a", b"b"), "2 names"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, array, names, message):
    with pytest.raises(CheckpointError, match=message):
        read_params(file_of(tmp_path / "p", array, names=names))


def test_two_arrays_of_one_name_are_refused(tmp_path):
    array = struct.pack("<Iiiq", V2, 0, 1, 1) + CPU + FLOAT32 + b"\0" * 4
    with pytest.raises(CheckpointError, match="same name: a"):
        read_params(file_of(tmp_path / "p", array, array, names=(b"a", b"a")))


def test_dtypes_that_mxnet_lacks_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="complex128, of z"):
        write_params(tmp_path / "p", {"z": np.ones(2, complex)})


@pytest.mark.parametrize("shape", [(), (0, 3)])
def test_shapes_that_the_old_mode_lacks_are_refused(tmp_path, shape):
    with pytest.raises(CheckpointError, match="NumPy mode"):
        write_params(tmp_path / "p", {"a": np.zeros(shape)}, numpy_mode=False)


@settings(SAME_FILE, max_examples=100)
@given(st.data())
def test_damaged_files(tmp_path, damage, data):
    """Flips, cuts and huge numbers: an error, or arrays as the file then declares them."""
    arrays = {"a": np.ones((3, 4), "f4"), "b": np.arange(5), "c": np.zeros((2, 1, 2), "f2")}
    write_params(tmp_path / "p", arrays)
    raw = damage(data, (tmp_path / "p").read_bytes())
    (tmp_path / "p").write_bytes(raw)
    try:
        actual = read_params(tmp_path / "p")
    except CheckpointError:
        return
    values = list(actual.values()) if isinstance(actual, dict) else actual
    assert sum(value.nbytes for value in values) <= len(raw) * 2  # bfloat16 doubles
