"""The commands as Python calls: the same results, whatever the source of the pairs."""

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
pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "pairs.csv"
    lines = [",".join(row) for row in (("premise", "hypothesis", "label"), *ROWS)]
    path.write_text("\n".join(lines) + "\n")
    return path


def forms(folder):
    """Return the rows as files in several formats, and as objects of several libraries."""
    frame = pandas.DataFrame(ROWS, columns=["premise", "hypothesis", "label"])
    ends = (".tsv", ".semicolon.csv", ".jsonl", ".json", ".parquet")
    paths = [folder / f"pairs{end}" for end in ends]
    frame.to_csv(paths[0], sep="\t", index=False)
    frame.to_csv(paths[1], sep=";", index=False)
    frame.to_json(paths[2], orient="records", lines=True)
    frame.to_json(paths[3], orient="records", indent=1)
    frame.to_parquet(paths[4])
    objects = frame.to_dict("records")
    tables = [frame, polars.from_pandas(frame), datasets.Dataset.from_list(objects)]
    return [*paths, *tables, objects, ROWS]


def options(settings):
    """Return keyword arguments as command-line options."""
    names = {"num_epochs": "epochs"}
    pairs = [(f"--{names.get(k, k)}".replace("_", "-"), str(v)) for k, v in settings.items()]
    return [word for pair in pairs for word in pair]


@pytest.fixture
def where(backend):
    return ["--backend", backend.name, "--devices", "cpu"]


@pytest.fixture
def quiet(backend):
    return {"backend": backend.name, "devices": "cpu", "progress": False}


@pytest.mark.parametrize("pretrained", [False, True])
def test_a_call_trains_as_the_command_does(backend, table, pretrained, tmp_path, where, quiet):
    """The weights agree bit by bit, from any source of the pairs, with a share held out."""
    given = {"batch_size": 8, "num_epochs": 1, "pretrained": "bert.mini"}
    given = given if pretrained else {**SIZES, **SETTINGS}
    argv = ["train", "--train", str(table), "--dev", "0.25", *options(given), "--quiet"]
    assert main([*argv, *where, "--output", str(tmp_path / "command")]) == 0
    expected = backend.load(tmp_path / "command" / "last", "cpu").arrays()
    for source in [ROWS] if pretrained else [table, *forms(tmp_path)]:
        run = bertnli.train(source, 0.25, **given, **quiet)
        assert run.folder is None and run.history.epochs[-1].dev_accuracy is not None
        arrays = run.net.arrays()
        assert {*arrays} == {*expected}
        assert all(arrays[name].tobytes() == expected[name].tobytes() for name in arrays)


def test_the_dev_split_of_a_source_is_used(table, tmp_path, capsys, quiet):
    (tmp_path / "set").mkdir()
    for name in ("train", "dev"):
        (tmp_path / "set" / f"{name}.csv").write_bytes(table.read_bytes())
    given = {**quiet, **SIZES, "batch_size": 8, "num_epochs": 1, "progress": True}
    run = bertnli.train(tmp_path / "set", output=tmp_path / "run", **given)
    assert run.folder == tmp_path / "run" and (run.folder / "best").is_dir()
    out = capsys.readouterr().out
    assert f"train: 24 pairs from {tmp_path / 'set' / 'train.csv'}" in out
    assert f"dev: 24 pairs from {tmp_path / 'set' / 'dev.csv'}" in out
    with pytest.raises(TypeError, match=r"'learning_rate'\. Did you mean 'lr'"):
        bertnli.train(table, learning_rate=1)
    with pytest.raises(bertnli.ConfigError, match="lr is -1"):
        bertnli.train("no-such-file", lr=-1, **quiet)


def test_evaluate(backend, table, tmp_path, capsys, where, quiet):
    assert main(["evaluate", "bert.mini", "sample", str(table), *where, "--json"]) == 0
    out, err = capsys.readouterr()
    assert "24 pairs from" in err and "24 pairs have more than 128 tokens" in err
    report = bertnli.evaluate("bert.mini", ["sample", table], **quiet)
    assert json.loads(report.to_json()) == json.loads(out) and capsys.readouterr().err == ""
    names = [row[:2] for row in report.scores]
    assert names == [("bert.mini", "sample, dev"), ("bert.mini", "pairs.csv")]
    assert "pairs.csv" in str(report).splitlines()[2]
    net = bertnli.load("bert.mini", backend.name, "cpu")
    alone = bertnli.evaluate(net, ROWS, progress=False)
    assert alone.scores[0][2].accuracy == report.scores[1][2].accuracy
    assert str(alone).startswith("accuracy ")
    models = [net, "bert.mini"]
    several = bertnli.evaluate(models, "sample", baseline_on="sample:train", **quiet)
    assert several.to_dict()["sets"][0]["baseline"] is not None
    assert "hypothesis alone" in several.summary()
    files = [path.name for path in several.write(tmp_path / "report")]
    assert files == ["report.json", "report.html"]
    with pytest.raises(bertnli.ConfigError, match="--max-len"):
        bertnli.evaluate("bert.mini", "no-such-file", max_len=10_000, **quiet)


def test_predictions_are_made_as_pairs_arrive(backend, table, quiet):
    net, taken = bertnli.load("bert.mini", backend.name, "cpu"), []

    def pairs():
        for premise, hypothesis, _ in ROWS:
            taken.append(premise)
            yield premise, hypothesis

    answers = bertnli.predict(net, pairs(), batch_size=4, progress=False)
    first = next(answers)
    assert len(taken) < len(ROWS)  # a batch, and the rows that tell the columns
    assert (first.premise, first.hypothesis) == ROWS[0][:2]
    expected = net.predict([row[:2] for row in ROWS], batch_size=4)
    read = list(bertnli.predict("bert.mini", table, **quiet))
    for streamed, listed, from_file in zip([first, *answers], expected, read, strict=True):
        assert streamed.label == listed.label == from_file.label
        assert streamed.probabilities == pytest.approx(from_file.probabilities, abs=1e-5)


def test_pretraining_on_a_column_of_a_table_and_on_text(backend, tmp_path, where, quiet):
    corpus = bertnli.read("sample", "train")
    rows = list(zip(corpus.premises[:80], corpus.hypotheses[:80], strict=True))
    table, text = tmp_path / "texts.csv", tmp_path / "texts.txt"
    table.write_text("id,review\n" + "".join(f'{i},"{a} {b}"\n' for i, (a, b) in enumerate(rows)))
    text.write_text("".join(f"{a}\n{b}\n\n" for a, b in rows))
    given = {**SIZES, "num_epochs": 1, "max_positions": 64, "max_len": 64, "min_freq": 1}
    argv = ["pretrain", "--text", str(table), "--text-column", "review", *options(given)]
    assert main([*argv, *where, "--output", str(tmp_path / "run"), "--quiet"]) == 0
    run = bertnli.pretrain(text, **given, **quiet)
    arrays = backend.load_pretrained_model(tmp_path / "run" / "last", devices="cpu")[0].arrays()
    assert all(np.array_equal(arrays[name], array) for name, array in run.net.arrays().items())
    with pytest.raises(bertnli.ConfigError, match="--text-column"):
        bertnli.pretrain(text, delimiter=";", **quiet)
