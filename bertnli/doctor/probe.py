"""One backend tried out, in a process of its own.

A framework that is broken may end the process that imports it, and one that is whole changes it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np

from bertnli.errors import BERTNLIError
from bertnli.hub.catalogue import BUNDLED

#: What is predicted, and how far from the referee's a probability may be.
PAIR, TOLERANCE = ("A man is asleep.", "A man is awake."), 1e-4
#: Seconds after which a process is given up, and what stands before its answer.
TIMEOUT, MARK = 300, "bertnli.doctor: "


def probe(name: str) -> dict[str, Any]:
    """Return what a backend has to say of itself, or why it does not work."""
    # With our own path: what is imported there must be what would be imported here.
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; "
        f"from bertnli.doctor.probe import answer; answer({name!r})"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"works": False, "error": f"gave no answer within {TIMEOUT} seconds"}
    for line in done.stdout.splitlines():
        if line.startswith(MARK):
            found: dict[str, Any] = json.loads(line.removeprefix(MARK))
            return found
    return {"works": False, "error": _ending(done.returncode, done.stderr)}


def _ending(status: int, said: str) -> str:
    """Return in words how a process ended that should have answered."""
    last = " ".join(said.split()[-60:])
    if status < 0:
        try:
            how = f"was ended by {signal.Signals(-status).name}"
        except ValueError:
            how = f"was ended by signal {-status}"
    else:
        how = f"ended with status {status}"
    return f"the process that tried it {how}" + (f": {last}" if last else "")


def answer(name: str) -> None:
    """Print what `probe` reads."""
    print(MARK + json.dumps(examine_backend(name)), flush=True)


def examine_backend(name: str) -> dict[str, Any]:
    """Return what is found in this process; the framework is imported."""
    from bertnli.backends import get_backend

    start = time.perf_counter()
    try:
        backend = get_backend(name)
        found = {
            "works": True,
            "import_seconds": time.perf_counter() - start,
            "devices": [str(device) for device in backend.try_all_gpus()],
            **backend.backend_info(),
        }
        device = backend.try_all_gpus()[0]
        precision, reason = backend.as_precision("auto", device)
        found["precision"] = {"auto": precision, "reason": reason}
        start = time.perf_counter()
        net = backend.load(BUNDLED[0], "cpu")
        prediction = net.predict([PAIR])[0]
        found["test"] = {
            "pair": list(PAIR),
            "label": prediction.label,
            "probabilities": prediction.probabilities,
            "seconds": time.perf_counter() - start,
        }
    except BERTNLIError as error:
        return {"works": False, "error": " ".join(str(error).split())}
    except Exception as error:
        return {"works": False, "error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    return found


def expected() -> dict[str, float]:
    """Return the probabilities of `PAIR` by the float64 referee, which needs no framework."""
    from bertnli.bert.referee import forward
    from bertnli.data.corpus import Corpus
    from bertnli.data.dataset import PairDataset
    from bertnli.formats.load import load_classifier
    from bertnli.nets.classifier import softmax

    found = load_classifier(BUNDLED[0])
    assert found.labels is not None
    max_len = found.config.max_len
    dataset = PairDataset(Corpus.from_pairs([PAIR]), max_len, found.vocab, verbose=False)
    ids, segments, valid_lens = dataset.batch(np.arange(1)).inputs()
    logits = forward(found.arrays, found.config, ids, segments, valid_lens).logits
    assert logits is not None
    return dict(zip(found.labels, map(float, softmax(logits)[0]), strict=True))
