"""What the tests share: the backends, the reference's golden files, the frameworks' plain loops."""

from __future__ import annotations

import ast
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import processes
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

import bertnli
from bertnli.backends.interface import Backend
from bertnli.bert.config import BERTConfig
from bertnli.bert.parameters import bert_shapes, classifier_shapes
from bertnli.data.batches import Batch
from bertnli.data.packing import pack
from bertnli.formats import names
from bertnli.formats.checkpoint import Checkpoint
from bertnli.text.tokenizer_config import SPECIAL
from bertnli.text.vocab import RESERVED_TOKENS, Vocab
from bertnli.text.wordpiece import WordPieceVocab

# Machines are noisy: no test fails for a slow moment. CI tries the same examples each time; a new
# one is found where it can be mended.
SLOW = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("default", **SLOW)
hypothesis.settings.register_profile("ci", **SLOW, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")

FIXTURES = Path(__file__).parent / "fixtures"
FROM_FRAMEWORK = {"torch": names.from_torch, "mxnet": names.from_mxnet}
ZIPS = {"torch": "bert.tiny.torch.zip", "mxnet": "bert.tiny.zip"}


BACKENDS = ("torch", "mxnet")
#: Fixtures that take both frameworks.
NEED_BOTH = {"both", "loops"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backends",
        default=",".join(BACKENDS),
        metavar="NAMES",
        help="test these alone, and deselect what needs another (default: torch,mxnet)",
    )


def pytest_configure(config: pytest.Config) -> None:
    unknown = set(config.getoption("--backends").split(",")) - {*BACKENDS}
    if unknown:
        raise pytest.UsageError(f"--backends: {unknown} are none of {BACKENDS}")


def _left_out(config: pytest.Config) -> set[str]:
    """The backends that are not tested, because the command line says so."""
    return {*BACKENDS} - {*config.getoption("--backends").split(",")}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out a module that imports, at its top, a framework that is not tested."""
    left_out = _left_out(config)
    if collection_path.suffix != ".py" or not left_out:
        return None
    for node in ast.parse(collection_path.read_text(encoding="utf-8")).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if any(part in left_out for name in names for part in name.split(".")):
            return True
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = _left_out(config)
    if not left_out:
        return
    needless = [item for item in items if left_out & _needs(item)]
    config.hook.pytest_deselected(items=needless)
    items[:] = [item for item in items if item not in needless]


def _needs(item: pytest.Item) -> set[str]:
    """The backends that a test needs: by its fixtures, its parameters or a mark."""
    if NEED_BOTH & {*getattr(item, "fixturenames", ())}:
        return {*BACKENDS}
    needed = {name for mark in item.iter_markers("needs") for name in mark.args}
    spec = getattr(item, "callspec", None)
    for value in spec.params.values() if spec is not None else ():
        several = value if isinstance(value, tuple | list) else [value]
        needed |= {one for one in several if isinstance(one, str) and one in BACKENDS}
    return needed


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Unpack archives into a folder of this run, not into the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERTNLI_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn. One that is not installed is a failure, not a test left out."""
    return bertnli.get_backend(request.param)


@pytest.fixture(scope="session")
def both() -> tuple[Backend, Backend]:
    """The two backends, torch first, in one process."""
    return bertnli.get_backend("torch"), bertnli.get_backend("mxnet")


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """The folder of files that the reference implementation wrote; see its README."""
    return FIXTURES


@dataclass(frozen=True)
class Golden:
    """What the reference computed in one framework; tensors under their canonical names.

    Args:
        zip: the pretrained model, as the book publishes them.
        values: the arrays of golden.npz: inputs and outputs.
        batch: the inputs.
        grads: gradients of the sum of the batch's losses.
        steps: number of steps to the weights after so many steps of the book's own loop.
    """

    zip: Path
    values: dict[str, NDArray]
    batch: Batch
    grads: dict[str, NDArray]
    steps: dict[int, dict[str, NDArray]]

    def bert(self, nli: Backend, **sizes: Any) -> Any:
        """The pretrained model on a backend, loaded from the zip, without dropout."""
        bert, _ = nli.load_pretrained_model(
            self.zip, **{"num_heads": 4, "dropout": 0.0, "devices": "cpu", **sizes}
        )
        return bert

    def net(self, nli: Backend) -> Any:
        """The classifier on a backend, its output layer as in the reference."""
        net = nli.BERTClassifier(self.bert(nli))
        output = {f"output.{key}": self.values[f"output_{key}"] for key in ("weight", "bias")}
        net.load_arrays({**net.arrays(), **output}, "golden.npz")
        return net


def read_golden(name: str) -> Golden:
    """Read one framework's golden files."""
    with np.load(FIXTURES / name / "golden.npz") as file:
        values = dict(file)
    with np.load(FIXTURES / name / "golden_train.npz") as file:
        train = dict(file)

    def tensors(prefix: str) -> dict[str, NDArray]:
        parts = {key.partition("/")[::2]: value for key, value in train.items()}
        return {FROM_FRAMEWORK[name](key): v for (kind, key), v in parts.items() if kind == prefix}

    inputs = ("token_ids", "segments", "valid_lens", "labels")
    return Golden(
        zip=FIXTURES / "zips" / ZIPS[name],
        values=values,
        batch=Batch(*(values[key].astype(np.int32) for key in inputs)),
        grads=tensors("grad"),
        steps={1: tensors("step1"), 5: tensors("step5")},
    )


@pytest.fixture(scope="session")
def goldens() -> dict[str, Golden]:
    """The reference's results in each framework."""
    return {name: read_golden(name) for name in ZIPS}


@pytest.fixture(scope="session")
def golden(backend: Backend, goldens: dict[str, Golden]) -> Golden:
    """The reference's results in the framework of the backend in turn."""
    return goldens[backend.name]


class TorchLoop:
    """PyTorch's own tools around a net, as the book's loop uses them."""

    def __init__(self) -> None:
        import torch

        from bertnli.backends.torch import kernels, layers

        self.torch, self.layers, self.Dropout = torch, layers, kernels.Dropout

    def scope(self) -> AbstractContextManager[None]:
        """PyTorch has one kind of tensors only: nothing to switch."""
        return nullcontext()

    def tensor(self, array: NDArray) -> Any:
        return self.torch.from_numpy(array)

    def array(self, tensor: Any) -> NDArray:
        return tensor.detach().numpy()

    def save(self, bert: Any, path: Path) -> None:
        """Write a model's file as the book does."""
        self.torch.save(bert.state_dict(), path)

    def in_training(self, layer: Any, *inputs: Any) -> NDArray:
        """What a layer makes of arrays, and of what is none, while training."""
        return self.array(layer.train()(*_tensors(self, inputs)))

    def packed_attention(self, layer: Any, X: NDArray) -> NDArray:
        """What a layer of attention makes of pairs (B, T, H) without padding, while training."""
        return _packed_attention(self, layer.train(), X)

    def fast_dropout(self, layer: Any, X: NDArray) -> NDArray:
        """What a layer of dropout does where there is no padding, while training."""
        return self.array(self.Dropout(layer.train())(self.tensor(X)))

    def half_dropout(self, monkeypatch: Any) -> None:
        """Have all dropout multiply with 1 / 2."""
        monkeypatch.setattr(self.Dropout, "mask", lambda _, like: like.new_full(like.shape, 0.5))
        monkeypatch.setattr(self.torch.nn.Dropout, "forward", lambda self, X: X * 0.5)

    def dropout_layers(self, net: Any) -> set[str]:
        """The places of a net's dropout layers."""
        return {name for name, layer in net.named_modules() if type(layer).__name__ == "Dropout"}

    def gradients(self, net: Any, batch: Batch, forward: Any = None) -> dict[str, NDArray]:
        """The gradients of the sum of a batch's losses; forward is called in place of the net."""
        net.zero_grad()
        self._loss_sum(forward or net, batch).backward()
        return {names.from_torch(k): p.grad.numpy().copy() for k, p in net.named_parameters()}

    def train(self, net: Any, batches: list[Batch], lr: float = 1e-4) -> list[float]:
        """Steps of the book's loop; returns the sums of the losses."""
        optimizer = self.torch.optim.Adam(net.parameters(), lr=lr)
        net.train()
        loss_sums = []
        for batch in batches:
            optimizer.zero_grad()
            loss_sum = self._loss_sum(net, batch)
            loss_sum.backward()
            optimizer.step()
            loss_sums.append(loss_sum.item())
        return loss_sums

    def take_step(self, trainer: Any, gradients: dict[str, NDArray], lr: float) -> None:
        """Have a trainer take a step with given gradients."""
        for name, tensor in trainer.net.named_tensors().items():
            tensor.grad = self.tensor(gradients[name].astype(np.float32))
        trainer.engine.optimizer.step(lr)

    def _loss_sum(self, net: Any, batch: Batch) -> Any:
        inputs, labels = [*map(self.tensor, batch.inputs())], self.tensor(batch.labels).long()
        return self.torch.nn.CrossEntropyLoss(reduction="none")(net(inputs), labels).sum()


class MXNetLoop:
    """Gluon's own tools around a net, as the book's loop uses them."""

    def __init__(self) -> None:
        from bertnli.backends.mxnet import kernels, layers
        from bertnli.backends.mxnet._framework import mx

        self.mx, self.layers, self.Dropout = mx, layers, kernels.Dropout

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What the book's npx.set_np() does, for a while."""
        with self.mx.util.np_shape(True), self.mx.util.np_array(True):
            yield

    def tensor(self, array: NDArray) -> Any:
        with self.scope():
            return self.mx.np.array(array, dtype=array.dtype)

    def array(self, tensor: Any) -> NDArray:
        return tensor.asnumpy()

    def save(self, bert: Any, path: Path) -> None:
        """Write a model's file as the book does."""
        with self.scope():
            bert.save_parameters(str(path))

    def in_training(self, layer: Any, *inputs: Any) -> NDArray:
        """What a layer makes of arrays, and of what is none, while training."""
        with self.scope(), self.mx.autograd.record():
            return self.array(layer(*_tensors(self, inputs)))

    def packed_attention(self, layer: Any, X: NDArray) -> NDArray:
        """What a layer of attention makes of pairs (B, T, H) without padding, while training."""
        with self.scope(), self.mx.autograd.record():
            return _packed_attention(self, layer, X)

    def fast_dropout(self, layer: Any, X: NDArray) -> NDArray:
        """What a layer of dropout does where there is no padding, while training."""
        with self.scope(), self.mx.autograd.record():
            return self.array(self.Dropout(layer)(self.tensor(X)))

    def half_dropout(self, monkeypatch: Any) -> None:
        """Have all dropout multiply with 1 / 2."""
        monkeypatch.setattr(self.Dropout, "mask", lambda self, like: like.ones_like() * 0.5)
        monkeypatch.setattr(self.mx.gluon.nn.Dropout, "forward", lambda self, X: X * 0.5)

    def dropout_layers(self, net: Any, prefix: str = "") -> set[str]:
        """The places of a net's dropout layers."""
        children = net._children.items()
        places = {prefix + name for name, layer in children if type(layer).__name__ == "Dropout"}
        return places.union(*(self.dropout_layers(x, f"{prefix}{name}.") for name, x in children))

    def gradients(self, net: Any, batch: Batch, forward: Any = None) -> dict[str, NDArray]:
        """The gradients of the sum of a batch's losses; forward is called in place of the net."""
        self._backward(forward or net, batch)
        parameters = net._collect_params_with_prefix().items()
        return {names.from_mxnet(key): p.grad().asnumpy() for key, p in parameters}

    def train(self, net: Any, batches: list[Batch], lr: float = 1e-4) -> list[float]:
        """Steps of the book's loop; returns the sums of the losses."""
        with self.scope():
            trainer = self.mx.gluon.Trainer(net.collect_params(), "adam", {"learning_rate": lr})
            loss_sums = []
            for batch in batches:
                loss_sums.append(self._backward(net, batch))
                trainer.step(len(batch), ignore_stale_grad=True)
            return loss_sums

    def take_step(self, trainer: Any, gradients: dict[str, NDArray], lr: float) -> None:
        """Have a trainer take a step with given gradients."""
        rows = np.arange(trainer.net.config.vocab_size)
        arrays = {name: self.mx.nd.array(array) for name, array in gradients.items()}
        trainer.engine.optimizer.step(rows, arrays, lr)

    def _backward(self, net: Any, batch: Batch) -> float:
        with self.scope():
            inputs = [self.tensor(a) for a in (batch.token_ids, batch.segments)]
            inputs.append(self.tensor(batch.valid_lens.astype(np.float32)))
            labels = self.tensor(batch.labels.astype(np.float32))
            loss = self.mx.gluon.loss.SoftmaxCrossEntropyLoss()
            with self.mx.autograd.record():
                losses = loss(net(inputs), labels)
            losses.backward()
            return float(losses.sum().asnumpy())


def _packed_attention(loop: Any, layer: Any, X: NDArray) -> NDArray:
    layers = loop.layers
    B, T, H = X.shape
    [chunk] = pack(np.full(B, T), T)
    rows = loop.tensor(X.reshape(B * T, H)[chunk.tokens])
    groups = layers.groups(chunk, layer.num_heads, rows)
    heads = layers.attention(layer, [layers.project(layer, rows)], None, groups)
    return loop.array(layer.W_o(heads))[: B * T]


def _tensors(loop: Any, inputs: tuple[Any, ...]) -> list[Any]:
    return [loop.tensor(x) if isinstance(x, np.ndarray) else x for x in inputs]


LOOPS: dict[str, Callable[[], Any]] = {"torch": TorchLoop, "mxnet": MXNetLoop}


@pytest.fixture(scope="session")
def loops() -> dict[str, Any]:
    """Both frameworks' own training loops."""
    return {name: make() for name, make in LOOPS.items()}


@pytest.fixture(scope="session")
def loop(backend: Backend) -> Any:
    """The framework's own training loop, of the backend in turn."""
    return LOOPS[backend.name]()


def random_batch(
    size: int, seed: int = 0, *, vocab_size: int = 1000, longest: int = 24, shortest: int = 5
) -> Batch:
    """Pairs of random tokens. Which class is right shows in the hypothesis's first token."""
    rng = np.random.default_rng([seed, size, vocab_size, longest])
    lengths = rng.integers(shortest, longest + 1, size)
    columns = np.arange(int(lengths.max()))
    ids = rng.integers(6, vocab_size, (size, len(columns)))
    labels = rng.integers(0, 3, size)
    premise_ends = lengths // 2  # where the first <sep> stands
    rows = np.arange(size)
    ids[rows, premise_ends + 1] = 6 + labels
    ids[:, 0] = 1
    ids[rows, premise_ends] = ids[rows, lengths - 1] = 4
    valid = columns < lengths[:, None]
    segments = valid & (columns > premise_ends[:, None])
    return Batch(
        np.where(valid, ids, 3).astype(np.int32),
        segments.astype(np.int32),
        lengths.astype(np.int32),
        labels.astype(np.int32),
    )


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Batch]:
    return random_batch


@pytest.fixture(scope="session")
def tiny() -> BERTConfig:
    """Sizes of the golden files' model, with fewer positions."""
    return BERTConfig(1000, 32, 64, 4, 2, 0.0, 48)


@pytest.fixture(scope="session")
def damage() -> Callable[[st.DataObject, bytes], bytes]:
    """What becomes of a file's bytes: flipped bits, a cut, a huge number, up to three of them."""

    def damaged(data: st.DataObject, whole: bytes) -> bytes:
        raw = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 3))):
            place = data.draw(st.integers(0, len(raw) - 1))
            kind = data.draw(st.sampled_from(["flip", "cut", "huge"]))
            if kind == "flip":
                raw[place] ^= 1 << data.draw(st.integers(0, 7))
            elif kind == "huge":
                raw[place : place + 8] = b"\xff" * 7 + b"\x7f"
            elif place:
                del raw[place:]
        return bytes(raw)

    return damaged


def random_checkpoint(
    config: BERTConfig, labels: tuple[str, ...] | None, seed: int = 0, odd: bool = False
) -> Checkpoint:
    """Random tensors; odd ones are among them, which are easily lost."""
    rng = np.random.default_rng(seed)
    shapes = bert_shapes(config) if labels is None else classifier_shapes(config, len(labels))
    arrays = {
        name: rng.normal(float(name.endswith("ln.weight")), 0.3, shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    if odd:
        values = np.array([-0.0, 1e-42, 3.4e38, -1e-38, -3.4e38], np.float32)
        arrays["hidden.bias"][: len(values)] = values[: config.num_hiddens]
    vocab: Vocab
    if config.embedding_norm:
        pieces = [*SPECIAL.values(), *(f"w{i}" for i in range(config.vocab_size - 5))]
        vocab = WordPieceVocab.from_pieces(pieces)
    else:
        words = [*RESERVED_TOKENS, "<unk>", *(f"w{i}" for i in range(config.vocab_size - 5))]
        vocab = Vocab.from_list(words)
    return Checkpoint(arrays, config, vocab, labels, "the test")


@pytest.fixture(scope="session")
def make_checkpoint() -> Callable[..., Checkpoint]:
    return random_checkpoint


#: Writes a target's temporary folder, and is killed before it is renamed.
_KILLED = """
import os, signal, sys
from pathlib import Path
from bertnli._util.temporary import NEW, temporary_folder
with temporary_folder(Path(sys.argv[1])) as home:
    (home / NEW).mkdir()
    (home / NEW / "half").write_text("written")
    print(home.name, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="session")
def leave_leftover() -> Callable[[Path], Path]:
    """Have a killed process leave a target's temporary folder; any before it are left as well."""

    def leave(target: Path) -> Path:
        code = "import bertnli._util.temporary as t; t.clear_leftovers = lambda folder: None"
        code += _KILLED
        command = [sys.executable, "-c", code, str(target)]
        done = processes.run(command)
        assert done.returncode == -signal.SIGKILL, done.stderr
        return target.parent / done.stdout.strip()

    return leave
