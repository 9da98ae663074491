"""What the chapter's two tabs share: downloads, text, and the loop of ``train_ch13``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any

from bertnli._util.locks import hidden
from bertnli._util.notebook import CellOutput, in_notebook
from bertnli.bert.config import BERTConfig
from bertnli.bert.labels import LABELS
from bertnli.data.read import read
from bertnli.errors import BackendError, DataError, DownloadError, without_secrets
from bertnli.hub.archives import unpack_into
from bertnli.hub.catalogue import DATA_URL, HubView
from bertnli.hub.fetch import fetch, is_here
from bertnli.plots import new_figure
from bertnli.text import tokenize as text
from bertnli.text.pairs import get_tokens_and_segments
from bertnli.text.vocab import Vocab

__all__ = ["DATA_URL", "Accumulator", "Animator", "Timer", "Vocab", "get_dataloader_workers"]
__all__ += ["get_tokens_and_segments", "read_snli", "tokenize"]

#: The book's folder of downloads, relative to the working directory.
FOLDER = "../data"


class Downloads:
    """A tab's ``DATA_HUB``, and the functions that download its files; ``framework`` is the tab's.

    ``hub`` maps a name to (URL, SHA-1); ``hub[name] = (url, sha1)`` adds a name.
    """

    def __init__(self, framework: str) -> None:
        self.hub = HubView(framework)

    def download(self, url: str, folder: str = FOLDER, sha1_hash: str | None = None) -> str:
        """Download a URL, or a name of the hub, into a folder, and return the file's path.

        A file that is there with the right SHA-1 is kept; without a SHA-1 it is replaced.

        Raises:
            DownloadError: the name is unknown, the download fails, or the file has another SHA-1.
        """
        if "://" not in url:
            if url not in self.hub:
                raise DownloadError(f"{url!r} is not in DATA_HUB, which has {sorted(self.hub)}")
            url, sha1_hash = self.hub[url]
        target, sha1 = Path(folder, url.split("/")[-1]), sha1_hash and sha1_hash.lower()
        if sha1 is not None and is_here(target, sha1):
            return str(target)
        print(without_secrets(f"Downloading {target} from {url}..."))
        target.parent.mkdir(parents=True, exist_ok=True)
        arriving = hidden(target, ".new") if sha1 is None else target
        if sha1 is None:  # a file of this name need not be this URL's
            arriving.unlink(missing_ok=True)
        fetch(url, sha1, arriving, progress=True)
        return str(arriving.replace(target))

    def download_extract(self, name: str, folder: str | None = None) -> str:
        """Download an archive, unpack it beside itself, and return the folder of its content.

        Args:
            name: a name of the hub, or a URL, of a zip or tar archive.
            folder: the folder's name; None for the archive's name without its suffix.

        Raises:
            DownloadError: see `download`; or the archive is damaged or far too large unpacked.
        """
        archive = Path(self.download(name))
        unpack_into(archive, archive.parent)
        return str(archive.parent / folder if folder else archive.with_suffix(""))


class BySizes:
    """Gives a model of `bertnli.backends` the arguments of the book's BERTModel."""

    def __init__(
        self,
        vocab_size: int,
        num_hiddens: int,
        ffn_num_hiddens: int,
        num_heads: int,
        num_blks: int,
        dropout: float,
        max_len: int = 1000,
    ) -> None:
        sizes = (vocab_size, num_hiddens, ffn_num_hiddens, num_heads, num_blks, dropout, max_len)
        super().__init__(BERTConfig(*sizes))  # type: ignore[call-arg]


def get_dataloader_workers() -> int:
    """Return the number of the book's worker processes, 4."""
    return 4


def tokenize(lines: Sequence[str], token: str = "word") -> list[list[str]]:
    """Split each line into words, or with ``token="char"`` into characters."""
    if token not in ("word", "char"):
        raise DataError(f"token is {token!r}; it must be 'word' or 'char'")
    return text.tokenize(lines) if token == "word" else [list(line) for line in lines]


def read_snli(data_dir: str, is_train: bool) -> tuple[list[str], list[str], list[int]]:
    """Read ``snli_1.0_train.txt``, or ``snli_1.0_test.txt``, in a folder.

    Returns:
        Premises and hypotheses, words with spaces between them, and labels: 0 for entailment, 1
        for contradiction, 2 for neutral. Pairs without a gold label are left out.

    Raises:
        DataError: there is no such file, or it is malformed.
    """
    file = Path(data_dir, f"snli_1.0_{'train' if is_train else 'test'}.txt")
    premises, hypotheses, labels = read(file, format="tsv", labels=LABELS)
    return [*map(str, premises)], [*map(str, hypotheses)], [*map(int, labels)]


class Timer:
    """Measures several spans of time, in seconds, which are kept in ``times``."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.start()

    def start(self) -> None:
        """Begin a span."""
        self._began = time.perf_counter()

    def stop(self) -> float:
        """End the span, and return its length."""
        self.times.append(time.perf_counter() - self._began)
        return self.times[-1]

    def avg(self) -> float:
        """Return the mean length of the spans."""
        return self.sum() / len(self.times)

    def sum(self) -> float:
        """Return the length of all spans together."""
        return sum(self.times)

    def cumsum(self) -> list[float]:
        """Return the length of the first span, of the first two, and so on."""
        return list(accumulate(self.times))


class Accumulator:
    """``n`` sums: ``add`` adds a number, or a tensor of one, to each; ``[i]`` reads one."""

    def __init__(self, n: int) -> None:
        self.data = [0.0] * n

    def add(self, *args: Any) -> None:
        self.data = [total + float(value) for total, value in zip(self.data, args, strict=True)]

    def reset(self) -> None:
        self.data = [0.0] * len(self.data)

    def __getitem__(self, idx: int) -> float:
        return self.data[idx]


class Animator:
    """Curves that grow with each point; in a notebook, the figure in the cell's output grows, too.

    ``X`` and ``Y`` are the points of each curve. The arguments are those of matplotlib's axes,
    ``fmts`` the format of each curve, ``figsize`` the figure's width and height in inches.
    """

    def __init__(
        self,
        xlabel: str | None = None,
        ylabel: str | None = None,
        legend: Sequence[str] | None = None,
        xlim: Sequence[float] | None = None,
        ylim: Sequence[float] | None = None,
        xscale: str = "linear",
        yscale: str = "linear",
        fmts: Sequence[str] = ("-", "m--", "g-.", "r:"),
        nrows: int = 1,
        ncols: int = 1,
        figsize: tuple[float, float] = (3.5, 2.5),
    ) -> None:
        self.X: list[list[float]] = []
        self.Y: list[list[float]] = []
        self.fmts, self.legend, self._axes = fmts, legend, None
        self._settings = {"xlabel": xlabel, "ylabel": ylabel, "xlim": xlim, "ylim": ylim}
        self._settings |= {"xscale": xscale, "yscale": yscale}
        self._output = CellOutput()
        if in_notebook():
            with suppress(BackendError):  # no matplotlib
                self.fig = new_figure(*figsize)
                self._axes = self.fig.subplots(nrows, ncols, squeeze=False)[0, 0]

    def add(self, x: Any, y: Any) -> None:
        """Add a point to each curve.

        Args:
            x: a number for all curves, or a sequence with one for each.
            y: a sequence with a number for each curve, or None to add no point to it; for a single
                curve, a number.
        """
        ys = y if hasattr(y, "__len__") else [y]
        xs = x if hasattr(x, "__len__") else [x] * len(ys)
        for curve, (a, b) in enumerate(zip(xs, ys, strict=True)):
            if curve == len(self.X):
                self.X, self.Y = [*self.X, []], [*self.Y, []]
            if a is not None and b is not None:
                self.X[curve].append(float(a))
                self.Y[curve].append(float(b))
        if self._axes is not None:
            self._axes.clear()
            for *points, fmt in zip(self.X, self.Y, self.fmts, strict=False):
                self._axes.plot(*points, fmt)
            self._axes.set(**{k: v for k, v in self._settings.items() if v is not None})
            self._axes.legend(self.legend or [])
            self._output.show("curves", self.fig)


def train_epochs(
    train_iter: Any,
    num_epochs: int,
    devices: Sequence[Any],
    train_batch: Callable[[Any, Any], tuple[Any, float]],
    test_accuracy: Callable[[], float],
) -> None:
    """Train, draw the three curves, and print the last epoch's scores and the speed.

    Args:
        train_iter: batches of (features, labels), with a length.
        num_epochs: passes over them.
        devices: only printed.
        train_batch: makes a step; returns the batch's sum of losses and number of correct answers.
        test_accuracy: evaluates the test set; called after each epoch.
    """
    timer, num_batches = Timer(), len(train_iter)
    if not num_batches or num_epochs < 1:
        raise DataError(f"{num_batches} batches and {num_epochs} epochs leave nothing to train on")
    legend = ("train loss", "train acc", "test acc")
    animator = Animator("epoch", legend=legend, xlim=(1, num_epochs), ylim=(0, 1))
    every = max(1, num_batches // 5)
    for epoch in range(num_epochs):
        sums = Accumulator(3)  # losses, correct answers, examples
        for i, (features, labels) in enumerate(train_iter, start=1):
            timer.start()
            sums.add(*train_batch(features, labels), len(labels))
            timer.stop()
            loss, accuracy = sums[0] / sums[2], sums[1] / sums[2]
            if i % every == 0 or i == num_batches:
                animator.add(epoch + i / num_batches, (loss, accuracy, None))
        test = test_accuracy()
        animator.add(epoch + 1, (None, None, test))
    print(f"loss {loss:.3f}, train acc {accuracy:.3f}, test acc {test:.3f}")
    print(f"{sums[2] * num_epochs / timer.sum():.1f} examples/sec on {devices}")
