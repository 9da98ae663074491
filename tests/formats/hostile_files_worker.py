"""Reads files that would take much, or that are none, one after the other, within limits.

    python hostile_files_worker.py HOME COUNT [SHARD SHARDS]

HOME has a whole folder of each kind. Each case is put into its place; it must be refused with an
error of ours, or be read, within `hostile.SECONDS` and `hostile.BYTES`, in each of several ways. So
must COUNT mutations of it, and `WHOLE` times as many of each whole file. Of several processes each
takes a share of the mutated files, SHARD of SHARDS, and has a HOME of its own. Prints as JSON the
outcomes of the cases (and of mutations that were handled wrongly, also on stderr), the number of
mutations, and the seconds that the slowest took.
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
from pathlib import Path

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
WHOLE = 3
TEXTS = ["a" * 64, "a b c d e f g", "\ufdfa"]


def loaded(folder):
    """Load a checkpoint, and cut some text with its vocabulary."""
    list(load_checkpoint(folder, CLASSES, num_heads=2).vocab.ids_of(TEXTS, False))


#: Ways to read the file of a place; the outcome of the last one counts.
WAYS = {
    "corpus": (
        lambda path: PairDataset(read(path, on_error="skip"), 32, VOCAB, verbose=False),
        lambda path: PairDataset(read(path), 32, VOCAB, verbose=False),
        lambda path: list(pairs(path)),
        lambda path: read(path),
    ),
    "snli": (
        lambda path: read(path, on_error="skip"),
        lambda path: PairDataset.read(path.parent, "dev", 32, VOCAB, cache=False, verbose=False),
        lambda path: read(path),
    ),
    "text": (lambda path: build_text_vocab(read_text(path)),),
    "run": (lambda path: read_history(path.parent),),
    "archive": (lambda path: download_extract(path),),
}
MODEL = (lambda path: str(info(path.parent, tensors=True)), lambda path: loaded(path.parent))


def ways(place):
    return WAYS.get(place.partition(".")[0], MODEL)


def outcome(place, path):
    """Read a file in all ways; return "read", "refused", or what was handled wrongly."""
    shutil.rmtree(os.environ["BERTNLI_CACHE"], ignore_errors=True)
    result = ""
    for way in ways(place):
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
    """Damage a file, perhaps inside its pickle, or replace a value of its JSON."""
    if raw.startswith(b"PK") and b"data.pkl" in raw and rng.random() < 0.5:
        with contextlib.suppress(Exception):  # of an archive that is damaged itself
            return with_damaged_pickle(raw, rng)
    if Path(name).suffix in (".json", ".vocab") and len(raw) < 1 << 16 and rng.random() < 0.5:
        with contextlib.suppress(ValueError, RecursionError, IndexError, TypeError):
            return damaged_json(raw, rng)
    return damaged(raw, rng)


def with_damaged_pickle(raw, rng):
    """Damage the pickle of a state dict, and keep its checksums right."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(buffer, "w") as new:
        for member in old.infolist():
            content = old.read(member)
            is_pickle = member.filename.endswith("data.pkl")
            new.writestr(member.filename, damaged(content, rng) if is_pickle else content)
    return buffer.getvalue()


def import_everything(home):
    """Read all files once, so that no module is imported later; return their contents."""
    whole = {}
    for place, name in dict.fromkeys([*PLACES, *CASES]):
        path = home / place / name
        if path.is_file():
            whole[place, name] = path.read_bytes()
            for way in ways(place):
                with contextlib.suppress(BERTNLIError):
                    way(path)
    late = ("cp437", "utf-8-sig", "idna", "unicode_escape", "latin-1", "ascii")
    for encoding in (*streams._LIKELY, *streams.BOMS.values(), *late):
        codecs.lookup(encoding)
    for sample in (b"caf\xe9 " * 9, "Łódź płynie, дом".encode("cp1250", "replace"), bytes(99)):
        streams._proposal("utf-8", sample, b"")
    return whole


def run():
    faulthandler.dump_traceback_later(HANGS, exit=True)
    home, count, shard, shards = Path(sys.argv[1]), *map(int, (*sys.argv[2:], 0, 1)[:3])
    whole = import_everything(home)
    sys.addaudithook(watch)
    outcomes, mutations = {}, 0

    def try_one(case, place, name, make, is_mutation=False):
        with in_place(home / place / name, make) as path:
            result = outcome(place, path)
        is_wrong = result not in ("read", "refused")
        if is_wrong or not is_mutation:
            outcomes[case] = result
        if is_wrong:
            print(f"{case}: {result}", file=sys.stderr)

    for place, name in PLACES:
        for kind, make in KINDS.items():
            try_one(f"{place}, {name}: {kind}", place, name, make)
    contents = [(f"{at}, {name}", at, name, raw, WHOLE) for (at, name), raw in whole.items()]
    for (place, name), cases in CASES.items():
        for kind, content in cases.items():
            case, raw = f"{place}, {name}: {kind}", content()
            contents.append((case, place, name, raw, 1))
            try_one(case, place, name, lambda path, raw=raw: path.write_bytes(raw))
    for case, place, name, raw, times in contents[shard::shards]:
        for number in range(count * times):
            other = mutated(raw, name, random.Random(f"{case} {number}"))
            mutation = f"{case}, mutation {number}"
            try_one(mutation, place, name, lambda path, raw=other: path.write_bytes(raw), True)
            mutations += 1
    told = {"outcomes": outcomes, "mutations": mutations, "slowest": hostile.slowest}
    print(json.dumps(told))


if __name__ == "__main__":
    run()
