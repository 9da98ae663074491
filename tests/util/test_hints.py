"""Mistyped names and options given twice: what is said, and that nothing is lost."""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertnli
from bertnli._util.hints import hinted, near_path, nearest
from bertnli.cli import COMMANDS, main, make_parser
from bertnli.cli.parser import Parser, _Store
from bertnli.data.batches import Batch, _chunks
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset
from bertnli.errors import BackendError, ConfigError, DataError, DownloadError
from bertnli.hub.catalogue import download_extract
from bertnli.nets.classifier import Classifier
from bertnli.text.vocab import RESERVED_TOKENS, Vocab
from bertnli.training.sets import Source
from bertnli.training.trainer import Trainer


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Return the last line on stderr of a command that ends with status 2."""
    capsys.readouterr()
    try:
        status = main(argv)
    except SystemExit as end:  # of argparse
        status = end.code  # type: ignore[assignment]
    assert status == 2
    return capsys.readouterr().err.splitlines()[-1]


def options_of_commands() -> list[tuple[str, argparse.Action]]:
    """Each option of each command that takes a value."""
    commands = make_parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr,index]
    return [
        (name, action)
        for name, parser in commands.items()
        for action in parser._actions
        if action.option_strings and not isinstance(action.nargs, int) and action.nargs != "?"
    ]


LISTS = [
    (name, action)
    for name, action in options_of_commands()
    if action.nargs in ("+", "*") or (action.metavar or "").endswith(("NAMES", "MAP"))
]


def test_there_are_lists_among_the_options() -> None:
    found = {(name, action.option_strings[-1]) for name, action in LISTS}
    assert found >= {
        *(("evaluate", "--also"), ("pretrain", "--text"), ("pretrain", "--dev-text")),
        *(("curve", "--names"), ("train", "--labels"), ("train", "--label-map")),
        *((name, "--devices") for name in ("train", "predict", "evaluate", "serve", "explain")),
    }


@pytest.mark.parametrize(
    ("command", "option"), LISTS, ids=[f"{name} {a.option_strings[-1]}" for name, a in LISTS]
)
def test_a_list_given_again_adds_to_it(command: str, option: argparse.Action) -> None:
    parser = make_parser()._subparsers._group_actions[0].choices[command]  # type: ignore[union-attr,index]
    for action in parser._actions:
        action.required = action.required and action.dest == option.dest
    for group in parser._mutually_exclusive_groups:
        group.required = False
    words = ["0=neutral", "1=entailment", "2=contradiction"]
    name = option.option_strings[-1]
    positional = [a for a in parser._actions if not a.option_strings]
    before = ["x"] * sum(a.nargs in (None, "+") for a in positional)
    together = [*words] if option.nargs else [",".join(words)]
    once = parser.parse_args([*before, name, *together])
    each = parser.parse_args([*before, *(part for word in words for part in (name, word))])
    assert getattr(each, option.dest) == getattr(once, option.dest)
    assert len(getattr(once, option.dest)) == 3


def test_no_option_keeps_its_last_value_without_a_word() -> None:
    for name, action in options_of_commands():
        harmless = argparse._StoreConstAction | argparse._HelpAction
        assert isinstance(action, _Store | harmless), (name, action.option_strings)


def test_a_file_is_not_lost_and_a_number_is_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    train = ["train", "--output", "x", "--train", "a.tsv"]
    said = refused(capsys, *train, "--output", "y")
    assert "argument --output: given twice, as 'x' and 'y'" in said
    said = refused(capsys, "lengths", "sample", "--plot", "a.png", "--plot", "b.png")
    assert "'a.png' and 'b.png'" in said
    parse = make_parser().parse_args
    args = parse([*train, "--batch-size", "3", "--batch-size", "4", "--output", "x"])
    assert (args.batch_size, args.output) == (4, "x")
    assert "--batch-size is given twice; 4 is taken, not 3" in capsys.readouterr().err
    args = parse(["predict", "x", "--backend", "torch", "--backend", "mxnet"])
    assert args.backend == "mxnet" and "not torch" in capsys.readouterr().err
    both = ["train", "--output", "x", "--train", "y", "--label-map", "0=neutral"]
    assert "0 is to be both neutral and" in refused(capsys, *both, "--label-map", "0=entailment")


def test_a_parser_may_be_used_again() -> None:
    parser = make_parser()
    for _ in range(2):
        assert parser.parse_args(["pretrain", "--text", "a", "--output", "x"]).text == ["a"]


@pytest.mark.parametrize(
    ("argv", "meant"),
    [
        (["trian"], "Did you mean 'train'?"),
        (["prediction"], "Did you mean 'predict'?"),
        (["explain", "--checkpont", "x", "a", "b"], "Did you mean --checkpoint, where --checkpont"),
        (["explain", "--checkpont=x", "a", "b"], "Did you mean --checkpoint,"),
        (["evaluate", "x", "sample", "--als", "y"], "Did you mean --also,"),
        (["train", "--outptu", "x", "--train", "sample"], "Did you mean --output,"),
        (["train", "--output", "x", "--train", "sample", "--learning-rate", "1"], "mean --lr,"),
        (["train", "--output", "x", "--train", "sample", "--num-epochs", "1"], "mean --epochs,"),
        (["train", "--output", "x", "--train", "sample", "--max_len", "9"], "mean --max-len,"),
        (["explain", "--model", "x", "a", "b"], "mean --checkpoint,"),
        (["predict", "x", "--backend", "pytorch"], "Did you mean 'torch'?"),
        (["serve", "--backend", "mx"], "Did you mean 'mxnet'?"),
        (["--verzion"], "Did you mean --version,"),
        (["evaluate", "bert.mini", "smaple"], "Did you mean 'sample'?"),
        (["train", "--output", "x", "--train", "SNLY"], "Did you mean 'SNLI'?"),
        (["lengths", "Sampel"], "Did you mean 'sample'?"),
        (["evaluate", "bert.mini", "sample", "--report", "x", "--calibrate-on", "sample:tets"],
         "Did you mean 'test'?"),
        (["data", "smaple"], "Did you mean 'sample'?"),
        (["predict", "bert.mni"], "Did you mean 'bert.mini'?"),
        (["info", "bert.mni"], "Did you mean 'bert.mini'?"),
        (["download", "bert.smal"], "Did you mean 'bert.small'?"),
        (["download", "SNLLI"], "Did you mean 'SNLI'?"),
        (["download", "bert.mini"], "bert.mini comes with bertnli; each command takes its name"),
        (["explain", "--ckpt", "x", "a", "b"], "Did you mean --checkpoint, where --ckpt is?"),
        (["predict", "--zzz", "a"], "--zzz. `bertnli predict --help` lists the options"),
        (["serve", "--zzz"], "--zzz. `bertnli serve --help` lists the options"),
        (["--zzz", "serve"], "--zzz. `bertnli --help` lists the options"),
        (["download", "GLUE"], "Known names: SNLI, bert.base, bert.mini, bert.small"),
        (["download", "sample"], "comes with bertnli; it is named sample"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)  # fmt: skip
def test_a_mistyped_name_gets_a_hint(
    argv: list[str],
    meant: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert meant in refused(capsys, *argv)


@pytest.mark.parametrize(
    "argv",
    [
        ["info", "{}"],
        ["predict", "{}", "--pair", "a", "b"],
        ["convert", "{}", "new", "--to", "torch"],
        ["parity", "{}"],
    ],
    ids=" ".join,
)
def test_names_of_models_that_are_no_checkpoint_here(
    argv: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("bert.small", "bert.base"):
        said = refused(capsys, *(word.format(name) for word in argv))
        if argv[0] == "predict":
            assert (
                f"without a classifier; train one with `bertnli train --pretrained {name}`" in said
            )
        else:
            assert f"`bertnli download {name}` prints" in said
        assert "Did you mean" not in said
    theirs = "Models of Hugging Face's hub are not downloaded; of one, give the folder of a down"
    train = ["train", "--train", "sample", "--output", "x", "--pretrained", "{}"]
    for name in ("bert-base-uncased", "microsoft/deberta-v3-base", "roberta-base"):
        for command in (argv, train):
            said = refused(capsys, *(word.format(name) for word in command))
            assert theirs in said and "the hub " not in said
    for name in ("bert-small", "runs", "a/b/c", "bert"):
        assert theirs not in refused(capsys, *(word.format(name) for word in argv))


def test_no_model_is_proposed_for_a_corpus(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("smaple", "bert.smal", "bert.small"):
        said = refused(capsys, "evaluate", "bert.mini", name)
        no_corpus = f"{name}: no such file, folder or archive, nor one of the corpora sample, SNLI"
        assert (f"{name} is a model, and no corpus" if name == "bert.small" else no_corpus) in said
        assert "bert.small'?" not in said and "bert.mini" not in said
    with pytest.raises(DownloadError) as caught:
        download_extract("SNLY", framework="torch")  # where a model is asked for
    assert "SNLI" not in str(caught.value)


@pytest.mark.parametrize(
    "argv",
    [
        ["predict", "bert.mini", "{}"],
        ["evaluate", "bert.mini", "{}"],
        ["lengths", "{}"],
        ["data", "{}"],
        ["train", "--output", "x", "--train", "{}"],
        ["pretrain", "--output", "x", "--text", "{}"],
        ["info", "{}"],
        ["convert", "{}", "new", "--to", "torch"],
        ["curve", "{}"],
        ["download", "{}"],
        ["train", "--output", "x", "--train", "sample", "--pretrained", "{}"],
    ],
    ids=" ".join,
)
def test_a_path_has_those_beside_it(
    argv: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.tsv").write_text("")
    said = refused(capsys, *(word.format(tmp_path / "pairs.tvs") for word in argv))
    assert said.endswith(f"Did you mean {tmp_path / 'pairs.tsv'}?") or (
        f"Did you mean {tmp_path / 'pairs.tsv'}? Known names" in said
    )
    assert not (tmp_path / "x").exists()


def test_a_column_has_those_of_the_header(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("label\ttext\tclaim\n")
    with pytest.raises(DataError, match=r"no column 'txet'.* Did you mean 'text'\?"):
        bertnli.read(tmp_path / "t.tsv", premise="txet", hypothesis="claim", label="label")


def test_nearest() -> None:
    names = ["lr", "num_epochs", "label_smoothing", "--max-len"]
    assert nearest("Learning-Rate", names) == "lr"
    assert nearest("epochs", names) == "num_epochs"
    assert nearest("MAX_LEN", names) == "--max-len"
    assert nearest("xyz", names) is None and nearest("", names) is None
    assert near_path("no/such/folder") == near_path(Path.cwd()) == ""


@pytest.mark.parametrize(
    ("name", "meant"),
    [("pytorch", "torch"), ("Torch", "torch"), ("pt", "torch"), ("mx", "mxnet"), ("mxnt", "mxnet")],
)
def test_backends(name: str, meant: str) -> None:
    with pytest.raises(BackendError, match=rf"Did you mean '{meant}'\?"):
        bertnli.get_backend(name)
    with pytest.raises(BackendError, match=rf"Did you mean '{meant}'\?"):
        bertnli.load("bert.mini", name)


def test_keyword_arguments() -> None:
    for given, meant in (
        ({"learning_rate": 1}, "Did you mean 'lr'?"),
        ({"weight_dekay": 1}, "Did you mean 'weight_decay'?"),
        ({"epochs": 1}, "fit() takes 'num_epochs'"),
        ({"batch_size": 1}, "fit() takes 'batch_size'"),
        ({"batchsize": 1}, "fit() takes 'batch_size'"),
        ({"micro_batch": 1}, "Did you mean 'micro_batch_size'?"),
    ):
        with pytest.raises(TypeError) as caught:
            Trainer(None, **given)  # type: ignore[arg-type]
        assert f"Trainer() got an unexpected keyword argument {next(iter(given))!r}. " in str(
            caught.value
        )
        assert str(caught.value).endswith(meant)
    trainer = object.__new__(Trainer)
    for given, meant in (
        ({"epochs": 1}, "Did you mean 'num_epochs'?"),
        ({"batchsize": 1}, "Did you mean 'batch_size'?"),
        ({"learning_rate": 1}, "Trainer() takes 'lr'"),
    ):
        with pytest.raises(TypeError) as caught:
            trainer.fit(None, **given)  # type: ignore[arg-type]
        assert str(caught.value).endswith(meant)
    with pytest.raises(ConfigError, match=r"takes a net, not 'bert\.mini'; make one with load"):
        Trainer("bert.mini")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Did you mean 'devices'\?"):
        bertnli.load("bert.mini", device="cpu")  # type: ignore[call-arg]


def test_hinted_functions_stay_what_they_are() -> None:
    def function(a: int, *, b: int = 2) -> int:
        """Add."""
        return a + b

    same = hinted()(function)
    assert same(1) == same(a=1) == 3 and same.__doc__ == "Add."
    assert inspect.signature(same) == inspect.signature(function)
    with pytest.raises(TypeError, match="It takes a, b"):
        same(1, zzz=2)  # type: ignore[call-arg]

    def broken() -> None:
        raise TypeError("its own")

    with pytest.raises(TypeError, match=r"^its own$"):
        hinted("usage")(broken)()


@pytest.mark.parametrize("pair", [("A dog.", "A cat."), ["A dog.", "A cat."]])
def test_one_pair_is_no_list_of_pairs(pair: Any) -> None:
    with pytest.raises(DataError, match=r"predict\(\[\('A dog\.', 'A cat\.'\)\]\)"):
        Corpus.from_pairs(pair)


@pytest.mark.parametrize("pairs", ["A dog.", None, 7, {"premise": "A"}, ["A", "B", "C"]])
def test_what_is_no_list_of_pairs(pairs: Any) -> None:
    with pytest.raises(DataError, match=r"predict\(\[\(premise, hypothesis\)\]\)"):
        Corpus.from_pairs(pairs)


def test_what_is_no_set_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"not 'sample'; bertnli.read\(path\) reads a file's"):
        PairDataset("sample", 16, Vocab.from_list([*RESERVED_TOKENS]))
    for data in (None, "sample", 3):
        source = Source(data, object(), Batch)  # type: ignore[arg-type]
        with pytest.raises(DataError, match=f"a training set is expected.* not {data!r}; "):
            source.check("training", 1)


@pytest.mark.parametrize("size", [0, "3", 2.5, None])
def test_what_is_no_size_of_a_batch(size: Any) -> None:
    with pytest.raises(ConfigError, match=f"batch_size is {size!r}; a whole number from 1 on"):
        list(_chunks(np.arange(5), size))


def test_one_pair_is_explained_by_two_sentences() -> None:
    with pytest.raises(TypeError, match=r"Give two sentences: explain\(premise, hypothesis\)"):
        Classifier.explain(object(), ("A dog.", "A cat."))  # type: ignore[call-arg, arg-type]


def test_no_command_is_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out == make_parser().format_help()


def test_the_commands_parsers_are_ours() -> None:
    commands = make_parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr,index]
    assert {*commands} == {*COMMANDS}
    assert all(isinstance(parser, Parser) for parser in commands.values())
