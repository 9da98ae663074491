"""Try a backend in its own process, since a broken framework may end the process."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np

from bertnli.errors import BERTNLIError
from bertnli.hub.catalogue import BUNDLED

#: The pair that is predicted, and the largest error of its probabilities that is accepted.
PAIR, TOLERANCE = ("A man is asleep.", "A man is awake."), 1e-4
#: Time limit in seconds, and the text that precedes the answer on standard output.
TIMEOUT, MARK = 300, "bertnli.doctor: "


def probe(name: str) -> dict[str, Any]:
    """Let a backend predict `PAIR` in a new process, and describe the backend.

    Returns:
        ``works`` and either ``error`` or the backend's versions, devices and prediction.
    """
    # The same path, so that the same packages are imported.
    code = f"import sys; sys.path[:] = {sys.path!r}; from bertnli.doctor import probe; "
    code += f"probe.print_probe({name!r})"
    command = [sys.executable, "-c", code]
    try:
        process = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return {"works": False, "error": f"gave no answer within {TIMEOUT} seconds"}
    _, mark, text = process.stdout.rpartition(MARK)
    if mark:
        answer: dict[str, Any] = json.loads(text.partition("\n")[0])
        return answer
    last = " ".join(process.stderr.split()[-60:])
    status = f"status {process.returncode}, negative for a signal"
    return {"works": False, "error": f"its process ended with {status}: {last}"}


def print_probe(name: str) -> None:
    """Try a backend in this process, and print the answer of `probe` as JSON after `MARK`."""
    try:
        answer = _probe(name)
    except Exception as error:
        kind = "" if isinstance(error, BERTNLIError) else f"{type(error).__name__}: "
        answer = {"works": False, "error": kind + " ".join(str(error).split())}
    print(MARK + json.dumps(answer), flush=True)


def _probe(name: str) -> dict[str, Any]:
    from bertnli.backends import get_backend

    backend = get_backend(name)
    devices = backend.try_all_gpus()
    precision, reason = backend.as_precision("auto", devices[0])
    prediction = backend.load(BUNDLED[0], "cpu").predict([PAIR])[0]
    return {
        "works": True,
        **backend.backend_info(),
        "devices": list(map(str, devices)),
        "precision": f"auto is {precision}: {reason}",
        "prediction": prediction.label,
        "probabilities": prediction.probabilities,
    }


def expected() -> dict[str, float]:
    """Compute the probabilities of `PAIR` in float64 with NumPy, by `bertnli.bert.referee`."""
    from bertnli.bert.referee import forward
    from bertnli.data.corpus import Corpus
    from bertnli.data.dataset import PairDataset
    from bertnli.formats.load import load_classifier
    from bertnli.nets.classifier import softmax

    model = load_classifier(BUNDLED[0])
    corpus = Corpus.from_pairs([PAIR])
    dataset = PairDataset(corpus, model.config.max_len, model.vocab, verbose=False)
    logits = forward(model.arrays, model.config, *dataset.batch(np.arange(1)).inputs()).logits
    assert logits is not None and model.labels is not None
    return dict(zip(model.labels, map(float, softmax(logits)[0]), strict=True))
