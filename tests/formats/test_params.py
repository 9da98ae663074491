"""MXNet's .params files without MXNet: read, written, and damaged in every way."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from refusals import refused

from bertnli.errors import CheckpointError
from bertnli.formats.params import (
    BFLOAT16,
    DTYPES,
    LIST_MAGIC,
    NPY_DTYPES,
    V1,
    V2,
    V3,
    is_params,
    read_params,
    write_params,
)

ANY_ARRAY = hnp.arrays(
    st.sampled_from([np.dtype(code) for flag, code in DTYPES.items() if flag != BFLOAT16]),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
)
NAMES = st.text(max_size=20).filter(lambda text: text[:4] not in ("arg:", "aux:"))
SAME_FILE = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=30,
)
CPU, FLOAT32 = struct.pack("<ii", 1, 0), struct.pack("<i", 0)
#: An array of one number.
ONE = struct.pack("<Iiiq", V2, 0, 1, 1) + CPU + FLOAT32 + bytes(4)


def file_of(path, *arrays, names=()):
    """Write a file of arrays that are bytes already."""
    parts = [struct.pack("<QQQ", LIST_MAGIC, 0, len(arrays)), *arrays]
    parts += [struct.pack("<Q", len(names)), *(struct.pack("<Q", len(n)) + n for n in names)]
    path.write_bytes(b"".join(parts))
    return path


def assert_same(actual, expected):
    assert type(actual) is type(expected)
    if isinstance(actual, dict):
        assert list(actual) == list(expected)
        actual, expected = actual.values(), expected.values()
    for one, other in zip(actual, expected, strict=True):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


@SAME_FILE
@given(st.dictionaries(NAMES, ANY_ARRAY, max_size=4) | st.lists(ANY_ARRAY, max_size=4))
def test_round_trip(tmp_path, arrays):
    write_params(tmp_path / "p", arrays)
    assert_same(read_params(tmp_path / "p"), arrays or [])


def test_old_layouts(tmp_path):
    values = np.arange(6, dtype="<f4").reshape(2, 3)
    shape64, shape32 = struct.pack("<i2q", 2, 2, 3), struct.pack("<3I", 2, 2, 3)
    layouts = [struct.pack("<Ii", version, 0) + shape64 for version in (V3, V2)]
    layouts += [struct.pack("<I", V1) + shape64, shape32]
    path = file_of(tmp_path / "p", *(x + CPU + FLOAT32 + values.tobytes() for x in layouts))
    assert_same(read_params(path), [values] * 4)


def test_bfloat16_becomes_float32(tmp_path):
    values = np.array([1.0, -2.5, 3e38, np.inf], "<f4")
    halves = (values.view("<u4") >> 16).astype("<u2")
    array = struct.pack("<Iii q", V2, 0, 1, 4) + CPU + struct.pack("<i", BFLOAT16)
    actual = read_params(file_of(tmp_path / "p", array + halves.tobytes()))
    assert_same(actual, [(halves.astype("<u4") << 16).view("<f4")])
    np.testing.assert_allclose(actual[0], values, rtol=2**-7)


@pytest.mark.parametrize(
    ("arrays", "names", "message"),
    [
        ([struct.pack("<Ii", V2, 1) + bytes(40)], (), "row_sparse"),
        ([struct.pack("<Ii", V2, 2) + bytes(40)], (), "csr"),
        ([struct.pack("<Iii", V2, 0, 0)], (), "no value"),
        ([struct.pack("<Iii", V3, 0, -1)], (), "no value"),
        ([struct.pack("<Iii", V3, 0, 40) + bytes(400)], (), "40 dimensions"),
        ([struct.pack("<Iii2q", V2, 0, 2, 1 << 40, 1 << 40) + CPU + FLOAT32], (), "bytes"),
        ([struct.pack("<Iiiq", V2, 0, 1, -1) + CPU + FLOAT32], (), "shape"),
        ([struct.pack("<Iiiq", V2, 0, 1, 1) + CPU + struct.pack("<i", 99)], (), "dtype 99"),
        ([ONE], (b"\xff",), "utf-8"),
        ([ONE], (b"a", b"b"), "2 names"),
        ([ONE, ONE], (b"a", b"a"), "same name: a"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, arrays, names, message):
    refused(CheckpointError, message, read_params, file_of(tmp_path / "p", *arrays, names=names))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones(2, complex), "complex128, of z"),
        (np.zeros(()), "NumPy mode"),
        (np.zeros((0, 3)), "NumPy mode"),
    ],
)
def test_what_mxnet_lacks_is_not_written(tmp_path, array, message):
    refused(CheckpointError, message, write_params, tmp_path / "p", {"z": array}, numpy_mode=False)


# NumPy's formats, which MXNet 2.0 writes


@SAME_FILE
@given(st.dictionaries(st.text("a.0é/ ", min_size=1, max_size=9), ANY_ARRAY, max_size=4))
def test_round_trip_of_an_archive(tmp_path, arrays):
    arrays = {name: array for name, array in arrays.items() if not name.endswith("/format")}
    write_params(tmp_path / "p", arrays, npz=True)
    if not arrays:
        refused(CheckpointError, "damaged or not", read_params, tmp_path / "p")
        return
    assert_same(read_params(tmp_path / "p"), arrays)
    with np.load(tmp_path / "p") as archive:
        assert_same(dict(archive), arrays)
    assert is_params((tmp_path / "p").read_bytes())


def test_an_archive_that_mxnet_2_wrote(fixtures):
    arrays = read_params(fixtures / "mxnet" / "savez-2.0.params")
    expected = {
        "dense.weight": np.arange(6, dtype="f4").reshape(2, 3),
        "é": np.array(2.5, "f4"),
        "ids": np.array([[-1, 2]], "i4"),
        "half": np.array([1, -2], "f2"),
        "empty": np.zeros((0, 3), "f4"),
    }
    assert_same(arrays, expected)


def test_what_numpy_writes_is_read(tmp_path):
    arrays = {"f": np.asfortranarray(np.arange(6).reshape(2, 3)), "arg:x": np.float64(1.5)}
    np.savez(tmp_path / "p.npz", **arrays)
    read = read_params(tmp_path / "p.npz")
    assert [*read] == ["f", "x"] and (read["f"] == arrays["f"]).all() and read["x"] == 1.5
    np.save(tmp_path / "p.npy", arrays["f"])
    (only,) = read_params(tmp_path / "p.npy")
    assert (only == arrays["f"]).all()


def npy(header, values=b"", version=1):
    """Make a .npy of a header's text."""
    size = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + header.encode() + values


def header(descr="<f4", shape="(1,)"):
    return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n"


def archive_of(path, entries, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


GOOD = npy(header(), bytes(4))


@pytest.mark.parametrize("version", [1, 2, 3])
def test_versions_of_npy(tmp_path, version):
    path = archive_of(tmp_path / "p", [("a.npy", npy(header(), bytes(4), version))])
    assert_same(read_params(path), {"a": np.zeros(1, "f4")})


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("a.npy", GOOD), ("a.npy", GOOD)], "same name: a"),
        ([("a.npy", GOOD), ("arg:a.npy", GOOD)], "same name: a"),
        ([("a.npy", GOOD), ("b.txt", b"")], "b.txt is not"),
        ([("a/format.npy", npy(header("|S3", "()"), b"csr"))], "a is sparse"),
        ([("a.npy", npy(header("|O"), bytes(8)))], "header"),
        ([("a.npy", npy(header("<c8"), bytes(8)))], "dtype c8, which MXNet lacks"),
        ([("a.npy", npy(header(">f4"), bytes(4)))], "header"),
        ([("a.npy", npy(header(shape="(9999999, 9999999)"), bytes(4)))], "bytes are expected"),
        ([("a.npy", npy(header(shape=f"({'1, ' * 40})"), bytes(4)))], "40 dimensions"),
        ([("a.npy", npy(header(shape=f"({'9' * 5000},)"), bytes(4)))], "damaged"),
        ([("a.npy", npy(header(shape="(-1,)"), bytes(4)))], "header"),
        ([("a.npy", npy(header(shape="(1 2,)"), bytes(4)))], "damaged"),
        ([("a.npy", npy("[" * 9000 + "\n"))], "header"),
        ([("a.npy", npy(header(), bytes(4), 9))], "header|bytes are expected"),
        ([("a.npy", GOOD + b"x")], "1 bytes follow the values of a"),
        ([("a.npy", b"")], "bytes are expected"),
        ([("a.npy", b"PK\x03\x04" + bytes(60))], "other bytes than a .npy"),
        ([(f"{'a' * 2000}.npy", GOOD)], "2,004 characters"),
    ],
)
def test_what_of_an_archive_cannot_be_read_is_named(tmp_path, entries, message):
    refused(CheckpointError, message, read_params, archive_of(tmp_path / "p", entries))


def test_an_archive_that_is_longer_inside_is_not_read(tmp_path):
    zeros = npy(header(shape="(1000000,)"), bytes(4_000_000))
    path = archive_of(tmp_path / "p", [("a.npy", zeros)], zipfile.ZIP_DEFLATED)
    refused(CheckpointError, "longer than the archive", read_params, path)
    small = archive_of(tmp_path / "p", [("a.npy", GOOD)], zipfile.ZIP_DEFLATED)
    refused(CheckpointError, "uncompressed|longer", read_params, small)


def test_archives_are_of_named_arrays(tmp_path):
    for arrays, settings_ in (([np.ones(1)], {}), ({"a": np.ones(1)}, {"numpy_mode": False})):
        refused(
            CheckpointError, "named", write_params, tmp_path / "p", arrays, npz=True, **settings_
        )


def test_an_archive_is_told_from_a_state_dict(fixtures):
    for framework, expected in (("mxnet", True), ("torch", False)):
        file = Path(fixtures, framework, "bert.tiny", "pretrained.params")
        assert is_params(file.read_bytes()[:5000]) is expected
    assert not is_params(b"")
    assert len(NPY_DTYPES) == len(DTYPES) - 1


@settings(SAME_FILE, max_examples=100)
@given(st.data())
def test_damaged_archives(tmp_path, damage, data):
    """Flips, cuts and huge numbers: an error, or the very arrays, perhaps under other names."""
    arrays = {"a": np.ones((3, 4), "f4"), "b": np.arange(5), "c": np.zeros((2, 1, 2), "f2")}
    write_params(tmp_path / "p", arrays, npz=True)
    (tmp_path / "p").write_bytes(damage(data, (tmp_path / "p").read_bytes()))
    try:
        actual = read_params(tmp_path / "p")
    except CheckpointError:
        return
    known = [array.tobytes() for array in arrays.values()]
    assert all(array.tobytes() in known for array in dict(actual).values())


def declared(raw):
    """Parse what a file declares, in another way: name to dtype and shape of each array."""
    file = io.BytesIO(raw)

    def number(code):
        return struct.unpack("<" + code, file.read(struct.calcsize(code)))[0]

    file.read(16)
    arrays = []
    for _ in range(number("Q")):
        version = number("I")
        if version >= V1:
            if version > V1:
                number("i")
            shape = tuple(number("q") for _ in range(number("i")))
        else:
            shape = tuple(number("I") for _ in range(version))
        file.read(8)
        kind = number("i")
        file.read(int(np.prod(shape, dtype=object)) * np.dtype(DTYPES[kind]).itemsize)
        arrays.append(("<f4" if kind == BFLOAT16 else np.dtype(DTYPES[kind]).str, shape))
    names = [file.read(number("Q")).decode() for _ in range(number("Q"))]
    names = [name[4:] if name[:4] in ("arg:", "aux:") else name for name in names]
    return dict(zip(names or range(len(arrays)), arrays, strict=True))


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
    actual = dict(enumerate(actual)) if isinstance(actual, list) else actual
    assert {name: (a.dtype.str, a.shape) for name, a in actual.items()} == declared(raw)
