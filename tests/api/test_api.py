"""What commands do, as calls: the same results, whatever the pairs come from."""

import json

import datasets
import numpy as np
import pandas
import polars
import pytest

import bertnli
from bertnli.cli import main

ANIMALS = ("dog", "cat", "horse", "bird", "cow", "child", "woman", "man")
SENTENCES = {"entailment": "rests", "contradiction": "is running fast", "neutral": "is happy"}
ROWS = [
    (f"A {animal} is asleep.", f"A {animal} {words}.", label)
    for animal in ANIMALS
    for label, words in SENTENCES.items()
]
SIZES = {"num_hiddens": 16, "ffn_num_hiddens": 32, "num_heads": 2, "num_blks": 1}
SETTINGS = {"max_positions": 24, "min_freq": 1, "batch_size": 8, "lr": 1e-2, "num_epochs": 2}


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "pairs.csv"
    lines = [",".join(row) for row in (("premise", "hypothesis", "label"), *ROWS)]
    path.write_text("\n".join(lines) + "\n")
    return path


def forms(folder):
    """The same pairs in other formats, and as objects of other libraries."""
    frame = pandas.DataFrame(ROWS, columns=["premise", "hypothesis", "label"])
    paths = [folder / f"pairs{end}" for end in (".tsv", ".semicolon.csv", ".jsonl", ".json")]
    frame.to_csv(paths[0], sep="\t", index=False)
    frame.to_csv(paths[1], sep=";", index=False)
    frame.to_json(paths[2], orient="records", lines=True)
    frame.to_json(paths[3], orient="records", indent=1)
    frame.to_parquet(folder / "pairs.parquet")
    objects = frame.to_dict("records")
    tables = [frame, polars.from_pandas(frame), datasets.Dataset.from_list(objects)]
    return [*paths, folder / "pairs.parquet", *tables, objects, ROWS]


def options(**settings):
    names = {"num_epochs": "epochs"}
    given = settings.items()
    return [w for k, v in given for w in (f"--{names.get(k, k)}".replace("_", "-"), str(v))]


def quiet(backend):
    return {"backend": backend.name, "devices": "cpu", "progress": False}


@pytest.mark.parametrize("pretrained", [False, True])
def test_a_call_trains_as_the_command_does(backend, table, pretrained, tmp_path):
    """To the bit, from files in any format, tables of any library and lists; a share held out."""
    given = {"batch_size": 8, "num_epochs": 1, "pretrained": "bert.mini"}
    given = given if pretrained else {**SIZES, **SETTINGS}
    argv = ["train", "--train", str(table), "--dev", "0.25", *options(**given), "--quiet"]
    where = ["--backend", backend.name, "--devices", "cpu", "--output", str(tmp_path / "command")]
    assert main([*argv, *where]) == 0
    expected = backend.load(tmp_path / "command" / "last", "cpu").arrays()
    for source in [ROWS] if pretrained else [table, *forms(tmp_path)]:
        run = bertnli.train(source, 0.25, **given, **quiet(backend))
        assert run.folder is None and run.history.epochs[-1].dev_accuracy is not None
        arrays = run.net.arrays()
        assert {*arrays} == {*expected}
        assert all(arrays[name].tobytes() == expected[name].tobytes() for name in arrays)


def test_a_source_brings_its_own_dev_split(backend, table, tmp_path, capsys):
    for name in ("train", "dev"):
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / f"{name}.csv").write_bytes(table.read_bytes())
    for start in (SIZES, {"pretrained": "bert.mini"}):
        given = {**start, "batch_size": 8, "num_epochs": 1}
        run = bertnli.train(tmp_path / "set", output=tmp_path / "run", overwrite=True, **given,
                            backend=backend.name, devices="cpu")  # fmt: skip
        assert run.folder == tmp_path / "run" and (run.folder / "best").is_dir()
        out = capsys.readouterr().out
        assert f"train: 24 pairs from {tmp_path / 'set' / 'train.csv'}" in out
        assert f"dev: 24 pairs from {tmp_path / 'set' / 'dev.csv'}" in out
    with pytest.raises(TypeError, match=r"'learning_rate'\. Did you mean 'lr'"):
        bertnli.train(table, learning_rate=1)
    with pytest.raises(bertnli.ConfigError, match="lr is -1"):
        bertnli.train("no-such-file", lr=-1, **quiet(backend))


def test_scores(backend, table, tmp_path, capsys):
    where = ["--backend", backend.name, "--devices", "cpu"]
    assert main(["evaluate", "bert.mini", "sample", str(table), *where, "--json"]) == 0
    out, err = capsys.readouterr()
    assert "24 pairs from" in err and "24 pairs have more than 128 tokens" in err
    report = bertnli.evaluate("bert.mini", ["sample", table], **quiet(backend))
    assert json.loads(report.to_json()) == json.loads(out) and capsys.readouterr().err == ""
    assert [row[:2] for row in report.scores] == [
        ("bert.mini", "sample, dev"),
        ("bert.mini", "pairs.csv"),
    ]
    assert "pairs.csv" in str(report).splitlines()[2]
    net = bertnli.load("bert.mini", backend.name, "cpu")
    alone = bertnli.evaluate(net, ROWS, progress=False)
    assert alone.scores[0][2].accuracy == report.scores[1][2].accuracy
    assert str(alone).startswith("accuracy ")
    several = bertnli.evaluate(
        [net, "bert.mini"], "sample", baseline_on="sample:train", **quiet(backend)
    )
    assert several.to_dict()["sets"][0]["baseline"] is not None
    assert "hypothesis alone" in several.summary()
    assert [path.name for path in several.write(tmp_path / "report")] == [
        "report.json",
        "report.html",
    ]
    with pytest.raises(bertnli.ConfigError, match="--max-len"):
        bertnli.evaluate("bert.mini", "no-such-file", max_len=10_000, **quiet(backend))


def test_answers_come_as_pairs_do(backend, table):
    net = bertnli.load("bert.mini", backend.name, "cpu")
    taken = []

    def pairs():
        for premise, hypothesis, _ in ROWS:
            taken.append(premise)
            yield premise, hypothesis

    answers = bertnli.predict(net, pairs(), batch_size=4, progress=False)
    first = next(answers)
    assert len(taken) < len(ROWS)  # a batch, and some by which the columns are told
    assert (first.premise, first.hypothesis) == ROWS[0][:2]
    predictions = [first, *answers]
    expected = net.predict([row[:2] for row in ROWS], batch_size=4)
    read = list(bertnli.predict("bert.mini", table, **quiet(backend)))
    for streamed, listed, from_file in zip(predictions, expected, read, strict=True):
        assert streamed.label == listed.label == from_file.label
        assert np.allclose(
            [*streamed.probabilities.values()], [*from_file.probabilities.values()], atol=1e-5
        )


def test_text_of_a_table(backend, tmp_path):
    """A column, the same as its sentences in a file of text."""
    corpus = bertnli.read("sample", "train")
    rows = list(zip(corpus.premises[:80], corpus.hypotheses[:80], strict=True))
    table, text = tmp_path / "texts.csv", tmp_path / "texts.txt"
    table.write_text("id,review\n" + "".join(f'{i},"{a} {b}"\n' for i, (a, b) in enumerate(rows)))
    text.write_text("".join(f"{a}\n{b}\n\n" for a, b in rows))
    where = ["--backend", backend.name, "--devices", "cpu", "--output", str(tmp_path / "run")]
    given = {**SIZES, "num_epochs": 1, "max_positions": 64, "max_len": 64, "min_freq": 1}
    argv = ["pretrain", "--text", str(table), "--text-column", "review", *options(**given)]
    assert main([*argv, *where, "--quiet"]) == 0
    run = bertnli.pretrain(text, **given, **quiet(backend))
    arrays = backend.load_pretrained_model(tmp_path / "run" / "last", devices="cpu")[0].arrays()
    assert all(np.array_equal(arrays[name], array) for name, array in run.net.arrays().items())
    with pytest.raises(bertnli.ConfigError, match="--text-column"):
        bertnli.pretrain(text, delimiter=";", **quiet(backend))
