"""Mistyped names, and options given twice: the message names what was meant."""

import argparse
import inspect
from pathlib import Path

import pytest

import bertnli
from bertnli._util.hints import hinted, near_path, nearest
from bertnli.cli import main, make_parser
from bertnli.cli.parser import _Store
from bertnli.data.corpus import Corpus
from bertnli.errors import BackendError, ConfigError, DataError
from bertnli.training.trainer import Trainer


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def error_of(capsys, *argv):
    """Return the last line on stderr of a command that ends with status 2."""
    capsys.readouterr()
    try:
        status = main(argv)
    except SystemExit as end:  # of argparse
        status = end.code
    assert status == 2
    return capsys.readouterr().err.splitlines()[-1]


COMMANDS = make_parser()._subparsers._group_actions[0].choices
#: Each option of each command that takes a value.
OPTIONS = [
    (name, action)
    for name, parser in COMMANDS.items()
    for action in parser._actions
    if action.option_strings and not isinstance(action.nargs, int) and action.nargs != "?"
]


def test_a_list_given_again_adds_to_it():
    parse = make_parser().parse_args
    train = ["train", "--train", "a", "--output", "x"]
    words = ["0=neutral", "1=entailment", "2=contradiction"]
    once = parse([*train, "--label-map", ",".join(words)])
    each = parse([*train, *(part for word in words for part in ("--label-map", word))])
    assert once.label_map == each.label_map and len(once.label_map) == 3
    text = ["--text", "a", "b", "--text", "c"]
    assert parse(["pretrain", *text, "--output", "x"]).text == ["a", "b", "c"]


def test_no_option_keeps_its_last_value_silently():
    harmless = argparse._StoreConstAction | argparse._HelpAction
    assert len(OPTIONS) > 50
    for name, action in OPTIONS:
        assert isinstance(action, _Store | harmless), (name, action.option_strings)


def test_a_file_is_not_lost_and_a_number_is_replaced(capsys):
    train = ["train", "--output", "x", "--train", "a.tsv"]
    message = error_of(capsys, *train, "--output", "y")
    assert "argument --output: given twice, as 'x' and 'y'" in message
    args = make_parser().parse_args([*train, "--batch-size", "3", "--batch-size", "4"])
    assert args.batch_size == 4
    assert "--batch-size is given twice; 4 is taken, not 3" in capsys.readouterr().err
    both = ["--label-map", "0=neutral", "--label-map", "0=entailment"]
    assert "0 is to be both neutral and" in error_of(capsys, *train, *both)


TRAIN = ["train", "--output", "x", "--train", "sample"]
CALIBRATE = ["--report", "x", "--calibrate-on", "sample:tets"]


@pytest.mark.parametrize(
    ("argv", "meant"),
    [
        (["trian"], "Did you mean 'train'?"),
        (["explain", "--checkpont=x", "a", "b"], "Did you mean --checkpoint,"),
        (["explain", "--ckpt", "x", "a", "b"], "Did you mean --checkpoint, where --ckpt is?"),
        ([*TRAIN, "--learning-rate", "1"], "mean --lr,"),
        ([*TRAIN, "--num-epochs", "1"], "mean --epochs,"),
        ([*TRAIN, "--max_len", "9"], "mean --max-len,"),
        (["predict", "x", "--backend", "pytorch"], "Did you mean 'torch'?"),
        (["--verzion"], "Did you mean --version,"),
        (["evaluate", "bert.mini", "smaple"], "Did you mean 'sample'?"),
        (["train", "--output", "x", "--train", "SNLY"], "Did you mean 'SNLI'?"),
        (["evaluate", "bert.mini", "sample", *CALIBRATE], "Did you mean 'test'?"),
        (["predict", "bert.mni"], "Did you mean 'bert.mini'?"),
        (["download", "bert.smal"], "Did you mean 'bert.small'?"),
        (["download", "bert.mini"], "bert.mini comes with bertnli; each command takes its name"),
        (["serve", "--zzz"], "--zzz. `bertnli serve --help` lists the options"),
        (["download", "GLUE"], "Known names: SNLI, bert.base, bert.mini, bert.small"),
        (["download", "sample"], "comes with bertnli; it is named sample"),
        (["evaluate", "bert.mini", "bert.small"], "bert.small is a model, and no corpus"),
        (["predict", "bert.small", "x"], "bertnli train --pretrained bert.small"),
        (["info", "bert.small"], "`bertnli download bert.small`"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistyped_name_gets_a_hint(argv, meant, capsys):
    assert meant in error_of(capsys, *argv)


def test_models_of_hugging_face_are_not_downloaded(capsys):
    hint = "Models of Hugging Face's hub are not downloaded; of one, give the folder of a down"
    for name in ("bert-base-uncased", "microsoft/deberta-v3-base", "roberta-base"):
        assert hint in error_of(capsys, "info", name)
        assert hint in error_of(capsys, *TRAIN, "--pretrained", name)
    for name in ("bert-small", "runs", "a/b/c", "bert"):
        assert hint not in error_of(capsys, "info", name)


@pytest.mark.parametrize(
    "argv",
    [
        ["predict", "bert.mini", "{}"],
        ["train", "--output", "x", "--train", "{}"],
        ["pretrain", "--output", "x", "--text", "{}"],
        ["convert", "{}", "new", "--to", "torch"],
        ["curve", "{}"],
        ["download", "{}"],
        [*TRAIN, "--pretrained", "{}"],
    ],
    ids=" ".join,
)
def test_a_missing_path_gets_a_hint(argv, capsys, tmp_path):
    (tmp_path / "pairs.tsv").write_text("")
    message = error_of(capsys, *(word.format(tmp_path / "pairs.tvs") for word in argv))
    assert f"Did you mean {tmp_path / 'pairs.tsv'}?" in message
    assert not (tmp_path / "x").exists()


def test_nearest():
    names = ["lr", "num_epochs", "label_smoothing", "--max-len"]
    assert nearest("Learning-Rate", names) == "lr"
    assert nearest("epochs", names) == "num_epochs"
    assert nearest("MAX_LEN", names) == "--max-len"
    assert nearest("xyz", names) is None and nearest("", names) is None
    assert near_path("no/such/folder") == near_path(Path.cwd()) == ""


@pytest.mark.parametrize(("name", "meant"), [("pytorch", "torch"), ("mxnt", "mxnet")])
def test_backends(name, meant):
    with pytest.raises(BackendError, match=rf"Did you mean '{meant}'\?"):
        bertnli.load("bert.mini", name)
    with pytest.raises(AttributeError, match="Did you mean 'evaluate'"):
        bertnli.evalute  # noqa: B018


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("learning_rate", "Did you mean 'lr'?"),
        ("weight_dekay", "Did you mean 'weight_decay'?"),
        ("epochs", "fit() takes 'num_epochs'"),
        ("batchsize", "fit() takes 'batch_size'"),
    ],
)
def test_keyword_arguments(name, hint):
    with pytest.raises(TypeError) as caught:
        Trainer(None, **{name: 1})
    message = str(caught.value)
    assert message.startswith(f"Trainer() got an unexpected keyword argument {name!r}. ")
    assert message.endswith(hint)
    with pytest.raises(TypeError, match=r"Trainer\(\) takes 'lr'"):
        object.__new__(Trainer).fit(None, learning_rate=1)
    with pytest.raises(ConfigError, match=r"takes a net, not 'bert\.mini'; make one with load"):
        Trainer("bert.mini")


def test_hinted_functions_stay_what_they_are():
    def function(a, *, b=2):
        """Add."""
        return a + b

    same = hinted()(function)
    assert same(1) == same(a=1) == 3 and same.__doc__ == "Add."
    assert inspect.signature(same) == inspect.signature(function)
    with pytest.raises(TypeError, match="It takes a, b"):
        same(1, zzz=2)

    def broken():
        raise TypeError("its own")

    with pytest.raises(TypeError, match=r"^its own$"):
        hinted("usage")(broken)()
    with pytest.raises(TypeError, match=r"too many positional arguments\. usage$"):
        hinted("usage")(broken)(1)


@pytest.mark.parametrize("pairs", [("A dog.", "A cat."), "A dog.", None, {"premise": "A"}])
def test_one_pair_is_no_list_of_pairs(pairs):
    with pytest.raises(DataError, match=r"predict\(\[\("):
        Corpus.from_pairs(pairs)
