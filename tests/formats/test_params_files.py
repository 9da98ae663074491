"""MXNet's .params files: what MXNet writes we read, what we write MXNet opens."""

import numpy as np
import pytest
from refusals import refused

from bertnli.backends.mxnet._framework import mx
from bertnli.errors import CheckpointError
from bertnli.formats.params import read_params, write_params

DTYPES = ["float32", "float64", "float16", "uint8", "int8", "int32", "int64", "bool"]


def assert_same(actual, expected):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    assert actual.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_mxnet_saves_is_read(tmp_path, dtype):
    values = np.random.default_rng(0).integers(0, 2, (3, 2, 4)).astype(dtype)
    path = str(tmp_path / "p")
    mx.nd.save(path, {"a": mx.nd.array(values, dtype=dtype), "arg:b": mx.nd.ones((2, 3))})
    arrays = read_params(path)
    assert list(arrays) == ["a", "b"]
    assert_same(arrays["a"], values)
    assert_same(arrays["b"], np.ones((2, 3), "f4"))
    mx.nd.save(path, [mx.nd.array(values, dtype=dtype)])
    (only,) = read_params(path)
    assert_same(only, values)


@mx.util.use_np
def test_numpy_mode(tmp_path):
    path = str(tmp_path / "p")
    arrays = {"scalar": np.array(2.5, "f4"), "empty": np.zeros((0, 3), "f4"), "é": np.ones(2, "f4")}
    mx.npx.save(path, {name: mx.np.array(array) for name, array in arrays.items()})
    saved = read_params(path)
    write_params(path, arrays)
    loaded = mx.npx.load(path)
    for name, array in arrays.items():
        assert_same(saved[name], array)
        assert_same(loaded[name].asnumpy(), array)


def test_sparse_arrays_of_mxnet_are_refused_by_name(tmp_path):
    for storage in ("row_sparse", "csr"):
        mx.nd.save(str(tmp_path / "p"), {"a": mx.nd.ones((3, 4)).tostype(storage)})
        refused(CheckpointError, storage, read_params, tmp_path / "p")


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_we_write_mxnet_loads_in_its_mode(tmp_path, dtype):
    values = np.random.default_rng(0).integers(0, 2, (3, 2, 4)).astype(dtype)
    path = str(tmp_path / "p")
    for arrays, key in (({"a": values}, "a"), ([values], 0)):
        write_params(path, arrays, numpy_mode=False)
        assert_same(mx.nd.load(path)[key].asnumpy(), values)
        write_params(path, arrays)
        with mx.util.np_shape(True), mx.util.np_array(True):
            assert_same(mx.npx.load(path)[key].asnumpy(), values)
