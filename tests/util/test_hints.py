"""Hints: the error about a mistyped name, or an option given twice, names what was meant."""

import argparse
import inspect
from pathlib import Path

import pytest

import bertnli
from bertnli._util.hints import hinted, near_path, nearest
from bertnli._util.progress import LogLines, duration
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
    except SystemExit as end:
        status = end.code
    assert status == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_a_list_that_is_given_again_is_extended():
    parse = make_parser().parse_args
    train = ["train", "--train", "a", "--output", "x"]
    words = ["0=neutral", "1=entailment", "2=contradiction"]
    once = parse([*train, "--label-map", ",".join(words)])
    each = parse([*train, *(part for word in words for part in ("--label-map", word))])
    assert once.label_map == each.label_map and len(once.label_map) == 3
    text = ["--text", "a", "b", "--text", "c"]
    assert parse(["pretrain", *text, "--output", "x"]).text == ["a", "b", "c"]


def test_no_option_silently_keeps_its_last_value():
    actions = [
        (name, action)
        for name, parser in make_parser().commands.items()
        for action in parser._actions
        if action.option_strings and not isinstance(action.nargs, int) and action.nargs != "?"
    ]
    assert len(actions) > 50
    for name, action in actions:
        harmless = argparse._StoreConstAction | argparse._HelpAction
        assert isinstance(action, _Store | harmless), (name, action.option_strings)


def test_an_option_that_is_given_twice(capsys):
    """It is an error for a path and a label; for a number, the last one is taken with a note."""
    train = ["train", "--output", "x", "--train", "a.tsv"]
    message = error_of(capsys, *train, "--output", "y")
    assert "argument --output: given twice, as 'x' and 'y'" in message
    args = make_parser().parse_args([*train, "--batch-size", "3", "--batch-size", "4"])
    assert args.batch_size == 4
    assert "--batch-size is given twice; 4 is taken, not 3" in capsys.readouterr().err
    both = ["--label-map", "0=neutral", "--label-map", "0=entailment"]
    assert "0 is to be both neutral and" in error_of(capsys, *train, *both)


TRAIN = "train --output x --train sample"


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("trian", "Did you mean 'train'?"),
        ("explain --checkpont=x a b", "Did you mean --checkpoint,"),
        ("explain --ckpt x a b", "Did you mean --checkpoint, where --ckpt is?"),
        (f"{TRAIN} --learning-rate 1", "mean --lr,"),
        (f"{TRAIN} --num-epochs 1", "mean --epochs,"),
        (f"{TRAIN} --max_len 9", "mean --max-len,"),
        ("predict x --backend pytorch", "Did you mean 'torch'?"),
        ("--verzion", "Did you mean --version,"),
        ("evaluate bert.mini smaple", "Did you mean 'sample'?"),
        ("train --output x --train SNLY", "Did you mean 'SNLI'?"),
        ("evaluate bert.mini sample --report x --calibrate-on sample:tets", "you mean 'test'?"),
        ("predict bert.mni", "Did you mean 'bert.mini'?"),
        ("download bert.smal", "Did you mean 'bert.small'?"),
        ("download bert.mini", "bert.mini comes with bertnli; each command takes its name"),
        ("serve --zzz", "--zzz. `bertnli serve --help` lists the options"),
        ("download GLUE", "Known names: SNLI, bert.base, bert.mini, bert.small"),
        ("download sample", "comes with bertnli; it is named sample"),
        ("evaluate bert.mini bert.small", "bert.small is a model, and no corpus"),
        ("predict bert.small x", "bertnli train --pretrained bert.small"),
        ("info bert.small", "`bertnli download bert.small`"),
        ("info microsoft/deberta-v3-base", "of one, give the folder of a down"),
        (f"{TRAIN} --pretrained bert-base-uncased", "of one, give the folder of a down"),
    ],
)
def test_a_mistyped_name_gets_a_hint(line, hint, capsys):
    assert hint in error_of(capsys, *line.split())


@pytest.mark.parametrize("name", ["bert-small", "runs", "a/b/c", "bert"])
def test_not_every_name_is_one_of_hugging_face(name, capsys):
    assert "Hugging Face's hub" not in error_of(capsys, "info", name)


@pytest.mark.parametrize(
    "line",
    [
        "predict bert.mini {}",
        "train --output x --train {}",
        "pretrain --output x --text {}",
        "convert {} new --to torch",
        "curve {}",
        "download {}",
        f"{TRAIN} --pretrained {{}}",
    ],
)
def test_a_missing_path_gets_a_hint(line, capsys, tmp_path):
    (tmp_path / "pairs.tsv").write_text("")
    message = error_of(capsys, *line.format(tmp_path / "pairs.tvs").split())
    assert f"Did you mean {tmp_path / 'pairs.tsv'}?" in message and not (tmp_path / "x").exists()


def test_nearest():
    names = ["lr", "num_epochs", "label_smoothing", "--max-len"]
    assert nearest("Learning-Rate", names) == "lr"
    assert nearest("epochs", names) == "num_epochs"
    assert nearest("MAX_LEN", names) == "--max-len"
    assert nearest("xyz", names) is None and nearest("", names) is None
    assert near_path("no/such/folder") == near_path(Path.cwd()) == ""
    with pytest.raises(BackendError, match=r"Did you mean 'mxnet'\?"):
        bertnli.load("bert.mini", "mxnt")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("learning_rate", "Did you mean 'lr'?"),
        ("weight_dekay", "Did you mean 'weight_decay'?"),
        ("epochs", "fit() takes 'num_epochs'"),
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


def test_the_decorator_for_hints_keeps_signature_and_errors():
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
def test_a_single_pair_is_no_list_of_pairs(pairs):
    with pytest.raises(DataError, match=r"predict\(\[\("):
        Corpus.from_pairs(pairs)


def test_progress_has_a_line_every_half_minute(capsys):
    now = 0.0
    lines = LogLines("dev.tsv", total=10_000, more=2_000, clock=lambda: now)
    for second in range(1, 100):
        now = float(second)
        lines.update(40 * second, "a note" if second > 80 else "")
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines() == [
        "dev.tsv: 1,200 of 10,000 pairs, 40.0 pairs/s, about 4 min left",
        "dev.tsv: 2,400 of 10,000 pairs, 40.0 pairs/s, about 4 min left",
        "dev.tsv: 3,600 of 10,000 pairs, a note, 40.0 pairs/s, about 4 min left",
    ]
    now = 0.0
    lines = LogLines("model.zip", "MB", done=100, clock=lambda: now)
    stuck = LogLines("stuck", total=10, clock=lambda: now)
    now = 60.0
    lines.update(130)
    stuck.update(0)
    err = capsys.readouterr().err
    assert err == "model.zip: 130 MB, 0.5 MB/s\nstuck: 0 of 10 pairs, 0.0 pairs/s\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5_990, "100 min"), (9_000, "2.5 h")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text
