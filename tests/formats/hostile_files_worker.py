"""Reads files that would take much, or that are none, one after the other, within limits.

    python hostile_files_worker.py HOME FIRST LAST [SHARD SHARDS]

HOME has a whole folder of each kind. Each case is put into its place; it must be refused with an
error of ours, or be read, within `hostile.SECONDS` and `hostile.BYTES`, in each of several ways. So
must mutations of it, and of the whole files: those with the numbers from FIRST to LAST, without the
last. Of several processes each takes a share of the files, SHARD of SHARDS, and has a HOME of its
own. Prints as JSON what came of the cases, how many mutations there were, and how many seconds the
slowest took; and on stderr what was handled wrongly.
"""

import codecs
import contextlib
import faulthandler
import io
import json
import os
import random
import shutil
import sys
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
for _framework in ("torch", "mxnet", "transformers"):
    sys.modules[_framework] = None  # type: ignore[assignment]

import hostile  # noqa: E402
from hostile import damaged, damaged_json, watch, watched  # noqa: E402
from hostile_files import CASES, KINDS, PLACES, in_place  # noqa: E402

from bertnli.api.info import info  # noqa: E402
from bertnli.data import streams  # noqa: E402
from bertnli.data.dataset import PairDataset  # noqa: E402
from bertnli.data.read import pairs, read  # noqa: E402
from bertnli.data.text import build_text_vocab, read_text  # noqa: E402
from bertnli.errors import BERTNLIError  # noqa: E402
from bertnli.formats.load import load_checkpoint  # noqa: E402
from bertnli.hub.catalogue import download_extract  # noqa: E402
from bertnli.text.vocab import RESERVED_TOKENS, Vocab  # noqa: E402
from bertnli.training.history import read_history  # noqa: E402

CLASSES = ("entailment", "contradiction", "neutral")
VOCAB = Vocab.from_list([*RESERVED_TOKENS, "<unk>", "a", "b"])
#: Seconds after which a case hangs, on however busy a machine.
HANGS = 120
TEXTS = ["a" * 64, "a b c d e f g", "\ufdfa"]


def loaded(path):
    """Load a checkpoint, and cut some text with its vocabulary."""
    list(load_checkpoint(path, CLASSES, num_heads=2).vocab.ids_of(TEXTS, False))


Reader = Callable[[Path], Any]
MODEL: tuple[Reader, ...] = (
    lambda path: str(info(path.parent, tensors=True)),
    lambda path: loaded(path.parent),
)
SNLI: tuple[Reader, ...] = (
    lambda path: read(path, on_error="skip"),
    lambda path: PairDataset.read(path.parent, "dev", 32, VOCAB, cache=False, verbose=False),
    lambda path: read(path),
)
#: Ways to read what is in a place; the last one's outcome counts.
WAYS: dict[str, tuple[Reader, ...]] = {
    "corpus": (
        lambda path: PairDataset(read(path, on_error="skip"), 32, VOCAB, verbose=False),
        lambda path: PairDataset(read(path), 32, VOCAB, verbose=False),
        lambda path: list(pairs(path)),
        lambda path: read(path),
    ),
    "text": (lambda path: build_text_vocab(read_text(path)),),
    "run": (lambda path: read_history(path.parent),),
    "archive": (lambda path: download_extract(path),),
}


def ways(place, path):
    return SNLI if place.startswith("snli") else WAYS.get(place, MODEL)


def outcome(place, path):
    """Return what came of a file: ``"read"``, ``"refused"``, or what is wrong."""
    shutil.rmtree(os.environ["BERTNLI_CACHE"], ignore_errors=True)
    result = ""
    for way in ways(place, path):
        faulthandler.dump_traceback_later(HANGS, exit=True)
        try:
            watched(way, path)
            result = "read"
        except BERTNLIError as error:
            result = "refused"
            if len(str(error)) > 5000:
                return f"a message of {len(str(error))} characters: {error!s:.500}"
        except BaseException as error:
            return f"{type(error).__name__}: {error}"[:200] + traceback.format_exc()[-1500:]
        finally:
            faulthandler.cancel_dump_traceback_later()
    return result


def mutated(raw, name, rng):
    """The bytes of a file with damage, perhaps in its pickle, or another value in its JSON."""
    if raw.startswith(b"PK") and b"data.pkl" in raw and rng.random() < 0.5:
        with contextlib.suppress(Exception):  # of an archive that is damaged itself
            return with_damaged_pickle(raw, rng)
    if Path(name).suffix in (".json", ".vocab") and len(raw) < 1 << 16 and rng.random() < 0.5:
        with contextlib.suppress(ValueError, RecursionError, IndexError, TypeError):
            return damaged_json(raw, rng)
    return damaged(raw, rng)


def with_damaged_pickle(raw, rng):
    """A state dict whose checksums are right, and whose pickle is damaged."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            is_pickle = info.filename.endswith("data.pkl")
            new.writestr(info.filename, damaged(content, rng) if is_pickle else content)
    return buffer.getvalue()


def run():
    faulthandler.dump_traceback_later(HANGS, exit=True)
    home, first, last, shard, shards = Path(sys.argv[1]), *map(int, (*sys.argv[2:], 0, 1)[:4])
    whole = {}
    for place, name in dict.fromkeys([*PLACES, *CASES]):
        path = home / place / name
        if path.is_file():
            whole[place, name] = path.read_bytes()
            for way in ways(place, path):
                with contextlib.suppress(BERTNLIError):
                    way(path)  # whatever is imported late
    for encoding in (
        *streams._LIKELY,
        *streams.BOMS.values(),
        "cp437",
        "utf-8-sig",
        "idna",
        "unicode_escape",
        "latin-1",
        "ascii",
    ):
        codecs.lookup(encoding)
    for sample in (b"caf\xe9 " * 9, "Łódź płynie, дом".encode("cp1250", "replace"), bytes(99)):
        streams._proposal("utf-8", sample, b"")
    sys.addaudithook(watch)
    outcomes: dict[str, str] = {}

    def tell(case, result):
        outcomes[case] = result
        if result not in ("read", "refused"):
            print(f"{case}: {result}", file=sys.stderr)

    for place, name in PLACES:
        for kind, make in KINDS.items():
            with in_place(home / place / name, make) as path:
                tell(f"{place}, {name}: {kind}", outcome(place, path))
    contents = {f"{place}, {name}": (place, name, raw) for (place, name), raw in whole.items()}
    for (place, name), cases in CASES.items():
        for case, content in cases.items():
            raw = content()
            contents[f"{place}, {name}: {case}"] = place, name, raw
            with in_place(home / place / name, lambda path, raw=raw: path.write_bytes(raw)) as path:
                tell(f"{place}, {name}: {case}", outcome(place, path))
    done = 0
    for case, (place, name, raw) in list(contents.items())[shard::shards]:
        for number in range(first, last):
            done += 1
            rng = random.Random(f"{case} {number}")
            other = mutated(raw, name, rng)
            with in_place(home / place / name, lambda path, raw=other: path.write_bytes(raw)) as p:
                result = outcome(place, p)
            if result not in ("read", "refused"):
                tell(f"{case}, mutation {number}", result)
    print(json.dumps({"cases": outcomes, "mutations": done, "slowest": hostile.slowest}))


if __name__ == "__main__":
    run()
