"""`bertnli.d2l`: the chapter's cells, and each name that they use."""

import hashlib
import importlib
import json
import os
import re
import subprocess
import sys
import threading
import time
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bertnli import errors
from bertnli.d2l import book
from bertnli.hub import catalogue

CELLS = Path(__file__).parent


@pytest.fixture(scope="module")
def site(fixtures, tmp_path_factory):
    """The address of a server that has the book's files in small."""
    folder = tmp_path_factory.mktemp("site")
    for path in (fixtures / "zips").glob("*.zip"):
        (folder / path.name).write_bytes(path.read_bytes())
    with zipfile.ZipFile(folder / "snli_1.0.zip", "w") as archive:
        for path in (fixtures / "snli_1.0").iterdir():
            archive.write(path, f"snli_1.0/{path.name}")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def d2l(backend, monkeypatch, tmp_path):
    """The module of the backend in turn, in an empty working directory, with a hub to change."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    known = {name: dict(files) for name, files in catalogue.DATA_HUB.items()}
    monkeypatch.setattr(catalogue, "DATA_HUB", known)
    return importlib.import_module(f"bertnli.d2l.{backend.name}")


@pytest.mark.parametrize(
    ("name", "start_method"),
    [
        ("torch", "fork"),
        ("mxnet", "fork"),
        ("mxnet", "spawn"),
        pytest.param("torch", "spawn", marks=pytest.mark.long),  # imports PyTorch eight times
    ],
)
def test_the_cells(name, start_method, site, tmp_path):
    """One epoch, and twelve more: the loss falls, and the two lines have the chapter's form."""
    (tmp_path / "work").mkdir()
    run = subprocess.run(
        [sys.executable, CELLS / f"cells_{name}.py", site, start_method, "1", "12"],
        cwd=tmp_path / "work",
        env={**os.environ, "OMP_NUM_THREADS": "2"},  # of which a fork has one
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    zips = ["bert.tiny.torch.zip" if name == "torch" else "bert.tiny.zip", "snli_1.0.zip"]
    assert [line for line in lines if line.startswith("Down")] == [
        f"Downloading ../data/{file} from {site}{file}..." for file in zips
    ]
    assert [line for line in lines if line.startswith("read")] == [
        "read 32 examples",
        "read 8 examples",
    ]
    number = r"(\d+\.\d{3})"
    scores = rf"loss {number}, train acc {number}, test acc {number}"
    losses = [float(match[1]) for match in map(partial(re.fullmatch, scores), lines) if match]
    assert len(losses) == 2
    assert losses[1] < 0.9 * losses[0]
    device = r"\[device\(type='cpu'\)\]" if name == "torch" else r"\[cpu\(0\)\]"
    speeds = [line for line in lines if re.fullmatch(rf"\d+\.\d examples/sec on {device}", line)]
    assert len(speeds) == 2
    assert not re.search("Error|Traceback", run.stderr), run.stderr
    assert {path.name for path in (tmp_path / "data").iterdir()} >= {*zips, "snli_1.0"}


def test_a_signature(d2l, loop):
    with loop.scope():
        bert = d2l.BERTModel(50, 8, 16, 2, 3, 0.1)
    assert bert.encoder.config.max_len == 1000
    assert len(list(bert.encoder.blks)) == 3


def test_download(d2l, site, fixtures, capsys):
    """A file with its SHA-1 is taken as it is; without one it is downloaded each time."""
    content = (fixtures / "zips" / "bert.tiny.zip").read_bytes()
    sha1 = hashlib.sha1(content).hexdigest()
    url, target = site + "bert.tiny.zip", Path("../data/bert.tiny.zip")
    line = f"Downloading ../data/bert.tiny.zip from {url}...\n"
    assert d2l.download(url, sha1_hash=sha1) == "../data/bert.tiny.zip"
    d2l.DATA_HUB["tiny"] = (url, sha1)
    assert d2l.DATA_HUB["tiny"] == (url, sha1)
    assert d2l.download("tiny") == "../data/bert.tiny.zip"
    assert capsys.readouterr().out == line
    target.write_bytes(b"broken")
    d2l.download("tiny")
    assert target.read_bytes() == content
    target.write_bytes(b"another file of this name")
    d2l.download(url)
    assert target.read_bytes() == content
    assert capsys.readouterr().out == 2 * line
    assert d2l.download(url, folder="elsewhere") == "elsewhere/bert.tiny.zip"
    for _ in range(2):
        assert d2l.download_extract("tiny") == "../data/bert.tiny"
        Path("../data/bert.tiny/vocab.json").write_text("[]")  # is unpacked anew
    assert d2l.download_extract("tiny", "bert.tiny") == "../data/bert.tiny"
    assert len(json.loads(Path("../data/bert.tiny/vocab.json").read_text())) > 5


def test_a_download_that_fails_leaves_the_file(d2l, site: str):
    target = Path("../data/bert.tiny.zip")
    target.parent.mkdir()
    target.write_bytes(b"mine")
    d2l.DATA_HUB["tiny"] = (site + "bert.tiny.zip", "0" * 40)
    with pytest.raises(errors.DownloadError, match="SHA-1"):
        d2l.download("tiny")
    d2l.DATA_HUB["tiny"] = (site + "missing/bert.tiny.zip", None)
    with pytest.raises(errors.DownloadError, match="404"):
        d2l.download("tiny")
    assert target.read_bytes() == b"mine"
    with pytest.raises(errors.DownloadError, match=r"bert\.tinny.*bert\.small"):
        d2l.download_extract("bert.tinny")


def test_the_hub(d2l, backend):
    file = "bert.small.torch.zip" if backend.name == "torch" else "bert.small.zip"
    assert d2l.DATA_HUB["bert.small"][0] == d2l.DATA_URL + file
    assert d2l.DATA_HUB["SNLI"][1] == "9fcde07509c7e87ec61c640c1b2753d9041758e4"


def test_read_snli(d2l, fixtures: Path):
    expected = json.loads((fixtures / "read_snli.golden.json").read_text(encoding="utf-8"))
    for split in ("train", "test"):
        columns = d2l.read_snli(str(fixtures / "snli_1.0"), split == "train")
        assert [*map(list, columns)] == expected[split]
        assert {type(value) for column in columns for value in column} <= {str, int}


def test_text(d2l):
    assert d2l.tokenize(["a b\xa0c", ""]) == [["a", "b", "c"], []]
    assert d2l.tokenize(["ab"], token="char") == [["a", "b"]]
    with pytest.raises(errors.DataError, match="'word' or 'char'"):
        d2l.tokenize(["ab"], "chars")
    assert d2l.get_tokens_and_segments(["a"], ["b", "c"]) == (
        ["<cls>", "a", "<sep>", "b", "c", "<sep>"],
        [0, 0, 0, 1, 1, 1],
    )
    assert d2l.get_tokens_and_segments(["a"]) == (["<cls>", "a", "<sep>"], [0, 0, 0])
    vocab = d2l.Vocab()
    vocab.idx_to_token = ["<unk>", "a"]
    vocab.token_to_idx = {"<unk>": 0, "a": 1}
    assert (len(vocab), vocab["a"], vocab["b"], vocab[["a", "b"]]) == (2, 1, 0, [1, 0])
    vocab = d2l.Vocab([["b", "b"], ["a"]], min_freq=2, reserved_tokens=["<pad>"])
    assert vocab.idx_to_token == ["<pad>", "<unk>", "b"]
    assert vocab.to_tokens([2, 1]) == ["b", "<unk>"]


def test_devices(d2l, backend):
    assert d2l.get_dataloader_workers() == 4
    assert d2l.try_all_gpus() == backend.try_all_gpus() != []
    assert d2l.try_gpu() == backend.try_gpu()


def test_timer_and_accumulator(d2l):
    timer = d2l.Timer()
    for _ in range(2):
        timer.start()
        time.sleep(0.01)
        assert timer.stop() == timer.times[-1] >= 0.01
    assert timer.sum() == pytest.approx(sum(timer.times))
    assert timer.avg() == pytest.approx(timer.sum() / 2)
    assert timer.cumsum() == pytest.approx([timer.times[0], timer.sum()])
    sums = d2l.Accumulator(2)
    sums.add(1, np.float32(2.5))
    sums.add(True, 1)
    assert (sums[0], sums[1]) == (2.0, 3.5)
    sums.reset()
    assert sums.data == [0.0, 0.0]


@pytest.mark.parametrize("notebook", [False, True])
def test_animator(notebook, monkeypatch: pytest.MonkeyPatch):
    pictures = []
    monkeypatch.setattr(book, "in_notebook", lambda: notebook)
    show = lambda _, text, figure: pictures.append(figure.axes[0])  # noqa: E731
    monkeypatch.setattr(book.CellOutput, "show", show)
    animator = book.Animator(xlabel="epoch", xlim=[1, 2], ylim=[0, 1], legend=["loss", "acc"])
    animator.add(0.5, (0.9, None))
    animator.add(1, (0.7, 0.4))
    assert (animator.X, animator.Y) == ([[0.5, 1.0], [1.0]], [[0.9, 0.7], [0.4]])
    assert len(pictures) == 2 * notebook
    for axes in pictures[-1:]:
        assert [[*line.get_ydata()] for line in axes.lines] == animator.Y
        assert (axes.get_xlabel(), axes.get_xlim()) == ("epoch", (1, 2))
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["loss", "acc"]
    one = book.Animator()
    one.add(1, 5)
    assert (one.X, one.Y) == ([[1.0]], [[5.0]])


def test_accuracy(d2l, loop):
    scores = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], np.float32)
    with loop.scope():
        y = loop.tensor(np.array([1, 1, 1], np.float32))
        assert d2l.accuracy(loop.tensor(scores), y) == 2.0
        assert d2l.accuracy(loop.tensor(np.array([1, 0, 0], np.int32)), y) == 1.0


def test_evaluate_accuracy_gpu(d2l, backend, loop):
    """Inputs are a tensor or a list of them; the share is of examples, not of batches."""
    with loop.scope():
        X = loop.tensor(np.array([[2, 0], [0, 1], [3, 0]], np.float32))
        y = loop.tensor(np.array([0, 0, 0], np.float32))
        if backend.name == "torch":
            import torch

            net = torch.nn.Linear(2, 2, bias=False)
            torch.nn.init.eye_(net.weight)
        else:
            from mxnet import gluon

            net = gluon.nn.Dense(2, use_bias=False, in_units=2)
            net.initialize()
            net.weight.set_data(loop.tensor(np.eye(2, dtype=np.float32)))
            assert d2l.evaluate_accuracy_gpus(net, [(X, y)]) == pytest.approx(2 / 3)
        assert d2l.evaluate_accuracy_gpu(net, [(X, y)]) == pytest.approx(2 / 3)
        assert d2l.evaluate_accuracy_gpu(net, [(X, y), (X[:1], y[:1])]) == 0.75
        assert not getattr(net, "training", False)


@pytest.mark.needs("mxnet")
def test_split_batch(loops):
    d2l, loop = importlib.import_module("bertnli.d2l.mxnet"), loops["mxnet"]
    from mxnet import cpu

    devices = [cpu(0), cpu(1)]
    with loop.scope():
        X, y = loop.tensor(np.arange(10, dtype=np.float32).reshape(5, 2)), loop.tensor(np.arange(5))
        parts, labels = d2l.split_batch(X[:4], y[:4], devices)
        assert [part.asnumpy().tolist() for part in parts] == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
        assert [part.asnumpy().tolist() for part in labels] == [[0, 1], [2, 3]]
        assert [part.ctx for part in parts] == devices
        for split in (d2l.split_batch, d2l.split_batch_multi_inputs):
            parts, labels = split([X, y], y, devices)
            assert [len(part) for part in labels] == [3, 2]
            for (first, second), part in zip(parts, labels, strict=True):
                assert (first.asnumpy()[:, 0] == 2 * part.asnumpy()).all()
                assert (second.asnumpy() == part.asnumpy()).all()
        with pytest.raises(ValueError, match="evenly"):
            d2l.split_batch(X, y, devices)


@pytest.mark.parametrize("num_batches", [1, 4, 11])
def test_points_of_the_curves(num_batches, monkeypatch, capsys):
    """At least five in an epoch, if there are so many batches, and the scores of all examples."""
    animators = []

    class Recorded(book.Animator):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            animators.append(self)

    monkeypatch.setattr(book, "Animator", Recorded)
    batches = [(None, range(4))] * (num_batches - 1) + [(None, range(2))]
    losses = iter(range(100))
    book.train_epochs(
        batches, 2, ["cpu"], lambda X, y: (next(losses), len(y) / 2), iter((0.25, 0.75)).__next__
    )
    size = 4 * num_batches - 2
    loss = sum(range(num_batches, 2 * num_batches)) / size
    scores, speed = capsys.readouterr().out.splitlines()
    assert scores == f"loss {loss:.3f}, train acc 0.500, test acc 0.750"
    assert re.fullmatch(r"\d+\.\d examples/sec on \['cpu'\]", speed)
    [animator] = animators
    assert len(animator.X[0]) == 2 * {1: 1, 4: 4, 11: 6}[num_batches]
    assert (animator.X[0][-1], animator.X[2], animator.Y[2]) == (2.0, [1.0, 2.0], [0.25, 0.75])


def test_nothing_to_train_on():
    with pytest.raises(errors.DataError, match="nothing to train on"):
        book.train_epochs([], 1, [], SimpleNamespace, SimpleNamespace)  # type: ignore[arg-type]
