"""Models that GluonNLP 0.10.0 itself saved, opened by both backends: the same numbers?

    pip install cython && pip install --no-deps --no-build-isolation gluonnlp==0.10.0
    python benchmarks/gluonnlp_models.py --json result.json

Small models of random sizes and weights, made by GluonNLP's own functions, with all heads and as
classifiers. With --write FOLDER, one of them is written with what GluonNLP computes from it, for
the tests: into gluonnlp/, its export into exported/, and a RoBERTa into roberta/.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import bertnli
from bertnli.backends.mxnet._framework import mx
from bertnli.data.batches import Batch
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset
from bertnli.parity import max_abs_difference

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PIECES = [
    *(".", ",", "'", "!", "man", "dog", "is", "run", "##ning", "outside", "the", "sleep", "nobody"),
    *LETTERS,
    *(f"##{letter}" for letter in LETTERS),
]
#: Merges of bytes, in which a space is \u0120.
MERGES = [
    *("i s", "t h", "th e", "r u", "n i", "ni n", "nin g", "\u0120 o", "\u0120o u", "\u0120 a"),
    *("\u0120 the", "\u0120 is", "d o", "do g", "\u0120 dog", "m a", "ma n", "\u0120 ru", "e e"),
    *("\u0120ru n", "\u0120run ning", "\u0120 man", "s i", "\u00c3 \u00a9", "\u0120a n"),
]
PAIRS = [
    ("A man is running outside.", "A man is sleeping."),
    ("The dog, it runs!", "Nobody's dog runs outside, is it?"),
    ("Un café.", "Hm"),
    ("The man is running outside, the dog is outside. " * 3, "A dog is running. " * 4),
]
LABELS = ("neutral", "entailment", "contradiction")
MAX_LEN = 40


def main() -> None:
    """Compare models, or write one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=int, default=10, help="how many (default: 10)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write golden files and end")
    args = parser.parse_args()
    if args.write:
        sizes = {"num_layers": 2, "units": 32, "hidden_size": 48, "num_heads": 4}
        home = args.write / "gluonnlp"
        golden = make(home, sizes, args.seed, args.write / "exported")
        np.savez_compressed(home / "golden.npz", **golden)
        (home / "pairs.json").write_text(json.dumps(PAIRS, ensure_ascii=False, indent=2))
        home, sizes = args.write / "roberta", {**sizes, "units": 16, "hidden_size": 24}
        np.savez_compressed(home / "golden.npz", **make_roberta(home, sizes, args.seed))
        return
    worst: dict[str, dict[str, float]] = {}
    for i in range(args.models):
        rng = np.random.default_rng([args.seed, i])
        heads = int(rng.integers(1, 9))
        sizes = {
            "num_layers": int(rng.integers(1, 6)),
            "units": heads * int(rng.integers(1, 13)) * 2,
            "hidden_size": int(rng.integers(8, 160)),
            "num_heads": heads,
        }
        with tempfile.TemporaryDirectory() as folder:
            golden = make(Path(folder), sizes, i)
            for name in ("torch", "mxnet"):
                for what, value in compare(Path(folder), golden, name).items():
                    row = worst.setdefault(name, {})
                    row[what] = max(value, row.get(what, 0.0))
    print(f"largest absolute difference over {args.models} models\n")
    print(
        "| backend | encoded | pooled | MLM | next sentence | logits |\n|---|---|---|---|---|---|"
    )
    for name, row in worst.items():
        print(f"| {name} | " + " | ".join(f"{value:.1e}" for value in row.values()) + " |")
    if args.json:
        args.json.write_text(json.dumps(worst, indent=2) + "\n")


def fill(net: Any, rng: np.random.Generator) -> None:
    """Give a net's parameters random values."""
    for name, parameter in sorted(net.collect_params().items()):
        # Matrices as wide as they keep their input's size, as trained ones do.
        width = 0.2 if len(parameter.shape) == 1 else parameter.shape[-1] ** -0.5
        values = rng.normal(float(name.endswith("gamma")), width, parameter.shape)
        parameter.set_data(mx.nd.array(values))


def make(
    folder: Path, sizes: dict[str, int], seed: int, exported: Path | None = None
) -> dict[str, np.ndarray]:
    """Write a model of GluonNLP's, a classifier of it, and its vocabulary; return what they give.

    The files are named as those of its model zoo, and of its fine-tuning script. The classifier is
    also exported, if there is a folder for it.
    """
    import gluonnlp

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    vocab = gluonnlp.vocab.BERTVocab(gluonnlp.data.count_tokens(PIECES))
    settings = {"max_length": 48, "embed_size": sizes["units"], "dropout": 0.1, **sizes}

    def model(heads: bool) -> Any:
        return gluonnlp.model.bert.get_bert_model(
            "bert_12_768_12",
            vocab=vocab,
            pretrained=False,
            hparam_allow_override=True,
            use_decoder=heads,
            use_classifier=heads,
            **settings,
        )[0]

    bert = model(heads=True)
    classifier = gluonnlp.model.BERTClassifier(model(heads=False), num_classes=3, dropout=0.1)
    for net in (bert, classifier):
        net.initialize()
    encode = gluonnlp.data.BERTSentenceTransform(
        gluonnlp.data.BERTTokenizer(vocab), max_seq_length=MAX_LEN, pair=True
    )
    ids, lens, segments = (np.stack(a) for a in zip(*map(encode, PAIRS), strict=True))
    positions = np.array([[1, 2], [3, 1], [2, 2], [4, 9]], np.int32)
    inputs = [mx.nd.array(a, dtype="int32") for a in (ids, segments)]
    inputs.append(mx.nd.array(lens.reshape(-1), dtype="float32"))
    bert(*inputs, mx.nd.array(positions, dtype="int32"))  # gives the deferred ones their shapes
    classifier(*inputs)
    for net in (bert, classifier):
        fill(net, rng)
    encoded, pooled, nsp, mlm = bert(*inputs, mx.nd.array(positions, dtype="int32"))
    name = "_".join(str(sizes[key]) for key in ("num_layers", "units", "num_heads"))
    bert.save_parameters(str(folder / f"bert_{name}_tiny_uncased-0a1b2c3d.params"))
    classifier.save_parameters(str(folder / "model_bert_SNLI_0.params"))
    (folder / "tiny_uncased-4e5f6a7b.vocab").write_text(vocab.to_json())
    outputs = {"encoded": encoded, "pooled": pooled, "nsp": nsp, "mlm": mlm}
    outputs["logits"] = classifier(*inputs)
    if exported is not None:
        exported.mkdir(parents=True, exist_ok=True)
        classifier.hybridize()
        classifier(*inputs)
        classifier.export(str(exported / "snli"))
    return {
        "token_ids": ids.astype(np.int32),
        "segments": segments.astype(np.int32),
        "valid_lens": lens.reshape(-1).astype(np.int32),
        "positions": positions,
        "num_heads": np.array(sizes["num_heads"]),
        **{key: value.asnumpy() for key, value in outputs.items()},
    }


def make_roberta(folder: Path, sizes: dict[str, int], seed: int) -> dict[str, np.ndarray]:
    """Write a RoBERTa of GluonNLP's, a classifier of it, and its vocabulary, as `make` does."""
    import gluonnlp

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    ranks = folder / "openai_webtext_bpe_ranks-396d4d8e.json"
    ranks.write_text("\n".join(["#version: 0.2", *MERGES, ""]), encoding="utf-8")
    digest = hashlib.sha1(ranks.read_bytes()).hexdigest()
    Tokenizer = gluonnlp.data.GPT2BPETokenizer  # it downloads the file if its hash is another
    tokenizer = type("_", (Tokenizer,), {"bpe_ranks_file_hash": (ranks.name, digest)})(str(folder))
    pieces = [*tokenizer._byte_encoder.values(), *(merge.replace(" ", "") for merge in MERGES)]
    ids = {t: i for i, t in enumerate(["<s>", "<pad>", "</s>", "<unk>", *pieces, "<mask>"])}
    special = {
        "bos": "<s>",
        "padding": "<pad>",
        "eos": "</s>",
        "unknown": "<unk>",
        "mask": "<mask>",
    }
    vocab = gluonnlp.vocab.Vocab(
        ids, token_to_idx=ids, **{f"{name}_token": token for name, token in special.items()}
    )
    settings = {"max_length": 48, "embed_size": sizes["units"], "dropout": 0.1, **sizes}

    def model(use_decoder: bool) -> Any:
        return gluonnlp.model.bert.get_roberta_model(
            "roberta_12_768_12",
            vocab=vocab,
            pretrained=False,
            hparam_allow_override=True,
            use_decoder=use_decoder,
            **settings,
        )[0]

    bert, classifier = model(True), gluonnlp.model.RoBERTaClassifier(model(False), 3, dropout=0.1)
    encode = gluonnlp.data.BERTSentenceTransform(tokenizer, MAX_LEN, vocab=vocab, pair=True)
    tokens, lens, _ = (np.stack(a) for a in zip(*map(encode, PAIRS), strict=True))
    positions = np.array([[1, 2], [3, 1], [2, 2], [4, 9]], np.int32)
    inputs = [mx.nd.array(tokens, dtype="int32"), mx.nd.array(lens.reshape(-1), dtype="float32")]
    masked = mx.nd.array(positions, dtype="int32")
    for net, arrays in ((bert, [*inputs, masked]), (classifier, inputs)):
        net.initialize()
        net(*arrays)  # gives the deferred ones their shapes
        fill(net, rng)
    name = "_".join(str(sizes[key]) for key in ("num_layers", "units", "num_heads"))
    bert.save_parameters(str(folder / f"roberta_{name}_tiny_cased-0a1b2c3d.params"))
    classifier.save_parameters(str(folder / "model_bert_SNLI_0.params"))
    (folder / "tiny_cased-4e5f6a7b.vocab").write_text(vocab.to_json())
    encoded, mlm = bert(*inputs, masked)
    return {
        "token_ids": tokens.astype(np.int32),
        "valid_lens": lens.reshape(-1).astype(np.int32),
        "positions": positions,
        "encoded": encoded.asnumpy(),
        "mlm": mlm.asnumpy(),
        "logits": classifier(*inputs).asnumpy(),
    }


def compare(folder: Path, golden: dict[str, np.ndarray], name: str) -> dict[str, float]:
    """Return how far a backend's outputs are from GluonNLP's, for the same text."""
    nli = bertnli.get_backend(name)
    (path,) = folder.glob("bert_*.params")
    bert: Any
    bert, vocab = nli.load_pretrained_model(path, dropout=0.0, devices="cpu")
    pairs = PairDataset(Corpus.from_pairs(PAIRS), MAX_LEN, vocab, verbose=False)
    batch = pairs.batch(np.arange(len(PAIRS)))
    width = batch.token_ids.shape[1]
    assert np.array_equal(batch.valid_lens, golden["valid_lens"])
    valid = np.arange(width) < batch.valid_lens[:, None]
    assert np.array_equal(batch.token_ids[valid], golden["token_ids"][:, :width][valid])
    encoded, pooled, mlm, nsp = outputs(name, bert, batch, golden["positions"])
    heads = int(golden["num_heads"])
    net = nli.load(folder / "model_bert_SNLI_0.params", "cpu", LABELS, heads)
    return {
        "encoded": max_abs_difference(encoded[valid], golden["encoded"][:, :width][valid]),
        "pooled": max_abs_difference(pooled, golden["pooled"]),
        "mlm": max_abs_difference(mlm, golden["mlm"]),
        "nsp": max_abs_difference(nsp[:, ::-1], golden["nsp"]),
        "logits": max_abs_difference(net.logits(batch), golden["logits"]),
    }


def outputs(name: str, bert: Any, batch: Batch, positions: np.ndarray) -> list[np.ndarray]:
    """Return what a BERT makes of a batch: encoded, pooled, MLM and next-sentence logits."""
    arrays = (batch.token_ids, batch.segments, batch.valid_lens, positions)
    if name == "torch":
        import torch

        with torch.no_grad():
            encoded, mlm, nsp = bert.eval()(*map(torch.from_numpy, arrays))
            return [t.numpy() for t in (encoded, bert.hidden(encoded[:, 0]), mlm, nsp)]
    with mx.util.np_shape(True), mx.util.np_array(True):
        encoded, mlm, nsp = bert(*(mx.np.array(array, dtype="int32") for array in arrays))
        return [t.asnumpy() for t in (encoded, bert.hidden(encoded[:, 0]), mlm, nsp)]


if __name__ == "__main__":
    main()
