"""Fixtures of all tests: backends, golden files, the frameworks' own loops, small models."""

import ast
import os
import signal
import sys
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import numpy as np
import processes
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

import bertnli
from bertnli.bert.config import BERTConfig
from bertnli.bert.parameters import bert_shapes, classifier_shapes
from bertnli.data.batches import Batch
from bertnli.formats import names
from bertnli.formats.checkpoint import Checkpoint
from bertnli.text.subwords import SubwordVocab
from bertnli.text.tokenizer_config import SPECIAL
from bertnli.text.vocab import RESERVED_TOKENS, Vocab
from bertnli.training.history import CURVE_MARK

# No test fails because the machine is slow. CI tries the same examples each time.
SLOW = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("default", **SLOW)
hypothesis.settings.register_profile("ci", **SLOW, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")

FIXTURES = Path(__file__).parent / "fixtures"
FROM_FRAMEWORK = {"torch": names.from_torch, "mxnet": names.from_mxnet}
ZIPS = {"torch": "bert.tiny.torch.zip", "mxnet": "bert.tiny.zip"}
BACKENDS = ("torch", "mxnet")
#: Fixtures that need both frameworks.
NEED_BOTH = {"both", "loops"}


def pytest_addoption(parser):
    parser.addoption(
        "--backends",
        default=",".join(BACKENDS),
        metavar="NAMES",
        help="test only these backends, and deselect tests of others (default: torch,mxnet)",
    )


def pytest_configure(config):
    unknown = set(config.getoption("--backends").split(",")) - {*BACKENDS}
    if unknown:
        raise pytest.UsageError(f"--backends: {unknown} are none of {BACKENDS}")


def _left_out(config):
    """Return the names of the backends that the command line excludes."""
    return {*BACKENDS} - {*config.getoption("--backends").split(",")}


def pytest_ignore_collect(collection_path, config):
    """Ignore a module that imports an excluded framework at its top."""
    left_out = _left_out(config)
    if collection_path.suffix != ".py" or not left_out:
        return None
    for node in ast.parse(collection_path.read_text(encoding="utf-8")).body:
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if any(part in left_out for module in modules for part in module.split(".")):
            return True
    return None


def pytest_collection_modifyitems(config, items):
    left_out = _left_out(config)
    needless = [item for item in items if left_out & _needs(item)]
    config.hook.pytest_deselected(items=needless)
    items[:] = [item for item in items if item not in needless]


def _needs(item):
    """Return the names of the backends that a test needs: by fixtures, parameters or marks."""
    if NEED_BOTH & {*getattr(item, "fixturenames", ())}:
        return {*BACKENDS}
    needed = {name for mark in item.iter_markers("needs") for name in mark.args}
    spec = getattr(item, "callspec", None)
    for value in spec.params.values() if spec is not None else ():
        values = value if isinstance(value, tuple | list) else [value]
        needed |= {x for x in values if isinstance(x, str) and x in BACKENDS}
    return needed


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    """Unpack archives into a temporary folder, not into the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERTNLI_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request):
    """Each backend in turn. A backend that is not installed is a failure, not a skipped test."""
    return bertnli.get_backend(request.param)


@pytest.fixture(scope="session")
def both():
    """The two backends, torch first."""
    return bertnli.get_backend("torch"), bertnli.get_backend("mxnet")


@pytest.fixture(scope="session")
def fixtures():
    """The folder of files that the reference implementation wrote; see its README."""
    return FIXTURES


@pytest.fixture
def no_pictures(monkeypatch):
    """Write a mark in place of each run's curve, which takes longer to draw than to train."""
    monkeypatch.setattr(bertnli.History, "plot", lambda self, path: path.write_text(CURVE_MARK))


@dataclass(frozen=True)
class Golden:
    """What the reference computed in one framework; tensors under their canonical names.

    Args:
        zip: the pretrained model, as the book publishes it.
        values: the arrays of golden.npz: inputs and outputs.
        batch: the inputs.
        grads: gradients of the sum of the batch's losses.
        steps: for 1 and 5, the weights after that number of steps of the book's own loop.
    """

    zip: Path
    values: dict[str, NDArray]
    batch: Batch
    grads: dict[str, NDArray]
    steps: dict[int, dict[str, NDArray]]

    def bert(self, nli, **sizes):
        """Load the pretrained model from the zip, without dropout."""
        sizes = {"num_heads": 4, "dropout": 0.0, "devices": "cpu", **sizes}
        return nli.load_pretrained_model(self.zip, **sizes)[0]

    def net(self, nli):
        """Make a classifier of the pretrained model, with the reference's output layer."""
        net = nli.BERTClassifier(self.bert(nli))
        output = {f"output.{key}": self.values[f"output_{key}"] for key in ("weight", "bias")}
        net.load_arrays({**net.arrays(), **output}, "golden.npz")
        return net


def read_golden(name):
    """Read the golden files of a framework."""
    with np.load(FIXTURES / name / "golden.npz") as file:
        values = dict(file)
    with np.load(FIXTURES / name / "golden_train.npz") as file:
        train = dict(file)

    def tensors(prefix):
        parts = {key.partition("/")[::2]: value for key, value in train.items()}
        return {FROM_FRAMEWORK[name](key): v for (kind, key), v in parts.items() if kind == prefix}

    inputs = ("token_ids", "segments", "valid_lens", "labels")
    batch = Batch(*(values[key].astype(np.int32) for key in inputs))
    steps = {1: tensors("step1"), 5: tensors("step5")}
    return Golden(FIXTURES / "zips" / ZIPS[name], values, batch, tensors("grad"), steps)


@pytest.fixture(scope="session")
def goldens():
    """The reference's results by framework."""
    return {name: read_golden(name) for name in ZIPS}


@pytest.fixture(scope="session")
def golden(backend, goldens):
    """The reference's results in the framework of the current backend."""
    return goldens[backend.name]


class TorchLoop:
    """PyTorch's own tools around a net, as the book's loop uses them."""

    def __init__(self):
        import torch

        from bertnli.backends.torch import kernels, layers

        self.torch, self.layers, self.Dropout = torch, layers, kernels.Dropout

    def scope(self):
        """Return a context in which arrays are NumPy-like; PyTorch needs none."""
        return nullcontext()

    def recording(self, layer=None):
        """Return a context in which a layer works as in training."""
        if layer is not None:
            layer.train()
        return nullcontext()

    def seed(self, seed):
        """Seed the framework's random numbers."""
        self.torch.manual_seed(seed)

    def tensor(self, array):
        return self.torch.from_numpy(array)

    def array(self, tensor):
        return tensor.detach().numpy()

    def save(self, bert, path):
        """Write a model's file as the book does."""
        self.torch.save(bert.state_dict(), path)

    def half_dropout(self, monkeypatch):
        """Make every dropout layer, if it drops anything, multiply by 1 / 2."""
        monkeypatch.setattr(self.Dropout, "mask", lambda _, like: like.new_full(like.shape, 0.5))
        monkeypatch.setattr(
            self.torch.nn.Dropout, "forward", lambda self, X: X * 0.5 ** (self.p > 0)
        )

    def dropout_layers(self, net):
        """Return the names of a net's dropout layers."""
        return {name for name, layer in net.named_modules() if type(layer).__name__ == "Dropout"}

    def gradients(self, net, batch, forward=None):
        """Return the gradients of the sum of a batch's losses; `forward` replaces the net's."""
        net.zero_grad()
        self._loss_sum(forward or net, batch).backward()
        return {names.from_torch(k): p.grad.numpy().copy() for k, p in net.named_parameters()}

    def train(self, net, batches, lr=1e-4):
        """Take the steps of the book's loop; return the sum of the losses of each batch."""
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

    def take_step(self, trainer, gradients, lr):
        """Take a step of a trainer's optimizer with given gradients."""
        for name, tensor in trainer.net.named_tensors().items():
            tensor.grad = self.tensor(gradients[name].astype(np.float32))
        trainer.engine.optimizer.step(lr)

    def _loss_sum(self, net, batch):
        inputs, labels = [*map(self.tensor, batch.inputs())], self.tensor(batch.labels).long()
        return self.torch.nn.CrossEntropyLoss(reduction="none")(net(inputs), labels).sum()


class MXNetLoop:
    """Gluon's own tools around a net, as the book's loop uses them; see `TorchLoop`."""

    def __init__(self):
        from bertnli.backends.mxnet import kernels, layers
        from bertnli.backends.mxnet._framework import mx

        self.mx, self.layers, self.Dropout = mx, layers, kernels.Dropout

    @contextmanager
    def scope(self):
        with self.mx.util.np_shape(True), self.mx.util.np_array(True):
            yield

    @contextmanager
    def recording(self, layer=None):
        with self.scope(), self.mx.autograd.record():
            yield

    def seed(self, seed):
        self.mx.random.seed(seed)

    def tensor(self, array):
        with self.scope():
            return self.mx.np.array(array, dtype=array.dtype)

    def array(self, tensor):
        return tensor.asnumpy()

    def save(self, bert, path):
        with self.scope():
            bert.save_parameters(str(path))

    def half_dropout(self, monkeypatch):
        monkeypatch.setattr(self.Dropout, "mask", lambda self, like: like.ones_like() * 0.5)
        forward = lambda self, X: X * 0.5 ** (self._rate > 0)  # noqa: E731
        monkeypatch.setattr(self.mx.gluon.nn.Dropout, "forward", forward)

    def dropout_layers(self, net, prefix=""):
        # MXNet 2.0 keeps weak references.
        get = lambda child: child if isinstance(child, self.mx.gluon.Block) else child()  # noqa: E731
        children = [(name, get(child)) for name, child in net._children.items()]
        places = {prefix + name for name, layer in children if type(layer).__name__ == "Dropout"}
        return places.union(*(self.dropout_layers(x, f"{prefix}{name}.") for name, x in children))

    def gradients(self, net, batch, forward=None):
        self._backward(forward or net, batch)
        parameters = net._collect_params_with_prefix().items()
        return {names.from_mxnet(key): p.grad().asnumpy() for key, p in parameters}

    def train(self, net, batches, lr=1e-4):
        with self.scope():
            trainer = self.mx.gluon.Trainer(net.collect_params(), "adam", {"learning_rate": lr})
            loss_sums = []
            for batch in batches:
                loss_sums.append(self._backward(net, batch))
                trainer.step(len(batch), ignore_stale_grad=True)
            return loss_sums

    def take_step(self, trainer, gradients, lr):
        rows = np.arange(trainer.net.config.vocab_size)
        arrays = {name: self.mx.nd.array(array) for name, array in gradients.items()}
        trainer.engine.optimizer.step(rows, arrays, lr)

    def _backward(self, net, batch):
        with self.scope():
            inputs = [self.tensor(a) for a in (batch.token_ids, batch.segments)]
            inputs.append(self.tensor(batch.valid_lens.astype(np.float32)))
            labels = self.tensor(batch.labels.astype(np.float32))
            loss = self.mx.gluon.loss.SoftmaxCrossEntropyLoss()
            with self.mx.autograd.record():
                losses = loss(net(inputs), labels)
            losses.backward()
            return float(losses.sum().asnumpy())


LOOPS = {"torch": TorchLoop, "mxnet": MXNetLoop}


@pytest.fixture(scope="session")
def loops():
    """Both frameworks' own training loops."""
    return {name: make() for name, make in LOOPS.items()}


@pytest.fixture(scope="session")
def loop(backend):
    """The training loop of the current backend's framework."""
    return LOOPS[backend.name]()


def random_batch(size, seed=0, *, vocab_size=1000, longest=24, shortest=5):
    """Draw pairs of random tokens; the hypothesis's first token tells the class."""
    rng = np.random.default_rng([seed, size, vocab_size, longest])
    lengths = rng.integers(shortest, longest + 1, size)
    columns = np.arange(int(lengths.max()))
    ids = rng.integers(6, vocab_size, (size, len(columns)))
    labels = rng.integers(0, 3, size)
    premise_ends = lengths // 2  # the position of the first <sep>
    rows = np.arange(size)
    ids[rows, premise_ends + 1] = 6 + labels
    ids[:, 0] = 1
    ids[rows, premise_ends] = ids[rows, lengths - 1] = 4
    valid = columns < lengths[:, None]
    segments = valid & (columns > premise_ends[:, None])
    arrays = (np.where(valid, ids, 3), segments, lengths, labels)
    return Batch(*(array.astype(np.int32) for array in arrays))


@pytest.fixture(scope="session")
def make_batch():
    return random_batch


@pytest.fixture(scope="session")
def tiny():
    """The sizes of the golden files' model, with fewer positions."""
    return BERTConfig(1000, 32, 64, 4, 2, 0.0, 48)


@pytest.fixture(scope="session")
def damage():
    """A function that damages bytes one to three times: a flipped bit, a cut, a huge number."""

    def damaged(data, original):
        raw = bytearray(original)
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


def random_checkpoint(config, labels, seed=0, odd=False):
    """Make a checkpoint of random tensors; `odd` adds signed zeros, subnormals and huge values."""
    rng = np.random.default_rng(seed)
    shapes = bert_shapes(config) if labels is None else classifier_shapes(config, len(labels))
    arrays = {
        name: rng.normal(float(name.endswith("ln.weight")), 0.3, shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    if odd:
        values = np.array([-0.0, 1e-42, 3.4e38, -1e-38, -3.4e38], np.float32)
        arrays["hidden.bias"][: len(values)] = values[: config.num_hiddens]
    words = [f"w{i}" for i in range(config.vocab_size - 5)]
    if config.embedding_norm:
        vocab = SubwordVocab.from_pieces([*SPECIAL.values(), *words])
    else:
        vocab = Vocab.from_list([*RESERVED_TOKENS, "<unk>", *words])
    return Checkpoint(arrays, config, vocab, labels, "the test")


@pytest.fixture(scope="session")
def make_checkpoint():
    return random_checkpoint


#: Writes a target's temporary folder, and is killed before the folder is renamed.
_KILLED = """
import os, signal, sys
from pathlib import Path
import bertnli._util.temporary as t
t.clear_leftovers = lambda folder: None
with t.temporary_folder(Path(sys.argv[1])) as home:
    (home / t.NEW).mkdir()
    (home / t.NEW / "half").write_text("written")
    print(home.name, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="session")
def leave_leftover():
    """A function that starts and kills a writer of a target; returns the folder it leaves."""

    def leave(target):
        done = processes.run([sys.executable, "-c", _KILLED, str(target)])
        assert done.returncode == -signal.SIGKILL, done.stderr
        return target.parent / done.stdout.strip()

    return leave
