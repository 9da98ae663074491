"""MXNet's .params files: what MXNet writes we read, what we write MXNet opens."""

from contextlib import ExitStack

import numpy as np
import pytest
from refusals import refused

from bertnli.backends.mxnet._framework import mx
from bertnli.errors import CheckpointError
from bertnli.formats.params import read_params, write_params

IS_2 = mx.__version__.startswith("2.")
DTYPES = ["float32", "float64", "float16", "uint8", "int8", "int32", "int64", "bool"]


def assert_same(actual, expected):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    assert actual.tobytes() == expected.tobytes()


def mode(numpy):
    """Switch MXNet's NumPy mode on or off; the one is 2.0's default, the other 1.9's."""
    stack = ExitStack()
    parts = [mx.util.np_shape, mx.util.np_array]  # the second needs the first
    for part in parts if numpy else reversed(parts):
        stack.enter_context(part(numpy))
    return stack


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
    saved = {name: mx.np.array(array) for name, array in arrays.items()}
    if IS_2:
        mx.npx.savez(path, **saved)
    else:
        mx.npx.save(path, saved)
    saved = read_params(path)
    write_params(path, arrays)
    loaded = mx.npx.load(path)
    for name, array in arrays.items():
        assert_same(saved[name], array)
        assert_same(loaded[name].asnumpy(), array)


def test_sparse_arrays_of_mxnet_are_refused_by_name(tmp_path):
    for storage in ("row_sparse", "csr"):
        with mode(numpy=False):
            mx.nd.save(str(tmp_path / "p"), {"a": mx.nd.ones((3, 4)).tostype(storage)})
        refused(CheckpointError, storage, read_params, tmp_path / "p")


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_we_write_mxnet_loads_in_its_mode(tmp_path, dtype):
    values = np.random.default_rng(0).integers(0, 2, (3, 2, 4)).astype(dtype)
    path = str(tmp_path / "p")
    for arrays, key in (({"a": values}, "a"), ([values], 0)):
        write_params(path, arrays, numpy_mode=False)
        with mode(numpy=False):
            assert_same(mx.nd.load(path)[key].asnumpy(), values)
        write_params(path, arrays)
        with mode(numpy=True):
            loaded = mx.npx.load(path)  # of one array without a name, 2.0 makes no list
            loaded = loaded if IS_2 and key == 0 else loaded[key]
            assert_same(loaded.asnumpy(), values)


@pytest.mark.parametrize("dtype", DTYPES)
def test_archives_are_for_mxnet_2(tmp_path, dtype):
    values = np.random.default_rng(0).integers(0, 2, (3, 2, 4)).astype(dtype)
    path = str(tmp_path / "p")
    write_params(path, {"é": values, "scalar": np.array(2.5, "f4")}, npz=True)
    with mode(numpy=True):
        if IS_2:
            loaded = mx.npx.load(path)
            assert_same(loaded["é"].asnumpy(), values)
            assert_same(loaded["scalar"].asnumpy(), np.array(2.5, "f4"))
        else:
            with pytest.raises(mx.MXNetError):
                mx.npx.load(path)


@mx.util.use_np
def test_what_gluon_saves_is_read_and_what_we_write_gluon_loads(tmp_path):
    def net():
        net = mx.gluon.nn.Sequential()
        net.add(mx.gluon.nn.Dense(2, in_units=3))
        net.initialize(mx.init.Zero())
        net[0].weight.set_data(mx.np.arange(6).reshape(2, 3))
        return net

    one, other, path = net(), net(), str(tmp_path / "p")
    one.save_parameters(path)
    arrays = read_params(path)
    assert_same(arrays["0.weight"], one[0].weight.data().asnumpy())
    path = str(tmp_path / "other")
    for npz in (False, True) if IS_2 else (False,):
        write_params(path, {name: array + 1 for name, array in arrays.items()}, npz=npz)
        other.load_parameters(path)
        assert_same(other[0].weight.data().asnumpy(), arrays["0.weight"] + 1)
