"""The command line without a framework: options, input, errors, what needs no tensors."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest

from bertnli.api.predict import _chunks
from bertnli.api.sets import describe
from bertnli.bert.config import BERTConfig
from bertnli.bert.labels import LABELS
from bertnli.bert.parameters import classifier_shapes, initial_arrays
from bertnli.cli import COMMANDS, corpora, main, make_parser
from bertnli.cli.terminal import printable_output
from bertnli.data import read
from bertnli.data.corpus import Corpus
from bertnli.errors import (
    ITS_END,
    MAX_MESSAGE,
    CheckpointError,
    DataError,
    DownloadError,
    without_secrets,
)
from bertnli.formats.native import save_native
from bertnli.hub import fetch
from bertnli.text.vocab import RESERVED_TOKENS, Vocab
from bertnli.version import __version__

ROOT = Path(__file__).resolve().parents[2]


def examples() -> list[list[str]]:
    """The arguments of each example that a command's help shows."""
    found = []
    for module in COMMANDS.values():
        text = (module.__doc__ or "").partition("\nexample")[2].replace("\\\n", "")
        for line in text.splitlines()[1:]:
            words = shlex.split(line) if line.startswith("  ") and line[2] != " " else []
            if "bertnli" in words:
                words = words[words.index("bertnli") + 1 :]
                found.append(words[: words.index(">")] if ">" in words else words)
    return found


def fails(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run a command that must end with status 2 and one line on stderr; return the line."""
    capsys.readouterr()
    assert main(argv) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"bertnli {argv[0]}: ")
    return lines[0]


@pytest.mark.parametrize("command", sorted(COMMANDS))
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "memory does not suffice"),
        (np.core._exceptions._ArrayMemoryError((1 << 40,), np.dtype("f4")), "Unable to allocate"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 TB"), "memory does not suf"),
        (RecursionError("too deep"), "nested too deeply"),
        (OverflowError("int too large"), "a number is too large"),
    ],
    ids=["memory", "array", "framework", "depth", "number"],
)
def test_too_much_is_a_message(
    command: str,
    error: Exception,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(COMMANDS[command], "run", fail)
    argv = next(argv for argv in examples() if argv[0] == command)
    assert message in fails(capsys, *argv)


@pytest.mark.parametrize("argv", examples(), ids=" ".join)
def test_examples_of_the_help_are_accepted(argv: list[str]) -> None:
    assert make_parser().parse_args(argv).run is COMMANDS[argv[0]].run


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"\n  bertnli {command} " in capsys.readouterr().out.partition("example")[2]
    assert any(argv[0] == command for argv in examples())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"bertnli {__version__}\n"


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["evaluate", "run"],
        ["evaluate", "run", "sample", "--batch-size", "0"],
        ["evaluate", "run", "sample", "--backend", "jax"],
        ["predict"],
        ["predict", "run", "--pair", "one sentence"],
        ["train", "--train", "sample"],
        ["train", "--output", "x"],
        [
            "train",
            "--output",
            "x",
            "--train",
            "sample",
            "--model",
            "bert.base",
            "--pretrained",
            "y",
        ],
        ["train", "--output", "x", "--train", "y.tsv", "--label-map", "0:entailment"],
        ["train", "--output", "x", "--train", "y.tsv", "--labels", "yes,yes"],
        ["train", "--output", "x", "--train", "sample", "--epoch", "3"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_refused_by_the_parser(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        make_parser().parse_args(argv)
    assert end.value.code == 2


def run_module(*argv: str) -> subprocess.CompletedProcess[str]:
    return processes.run([sys.executable, *argv], cwd=ROOT)


def test_python_m_bertnli() -> None:
    done = run_module("-m", "bertnli", "--help")
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert re.search(rf"^    {command}\b", done.stdout, re.MULTILINE)


def test_status_of_the_process_is_that_of_the_command() -> None:
    done = run_module("-m", "bertnli", "info", "no/such/folder")
    assert done.returncode == 2
    said = "no such file or folder; with bertnli comes bert.mini"
    assert done.stderr == f"bertnli info: no/such/folder: {said}\n"


def test_the_command_line_imports_no_framework() -> None:
    code = "import sys, bertnli.cli; print({'torch', 'mxnet'} & set(sys.modules))"
    assert run_module("-c", code).stdout == "set()\n"


def test_a_closed_pipe_ends_a_command_quietly() -> None:
    command = [sys.executable, "-m", "bertnli", "download", "--list"]
    pipe = subprocess.PIPE
    with processes.Process(command, cwd=ROOT, stdout=pipe, stderr=pipe) as process:
        process.stdout.close()
        process.stdout = None
        assert process.finish() == (None, "")
        assert process.returncode == 141


def test_pairs_before_a_bad_line_are_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("a b\tc d\nc d\te f\ne f\tg h\ng\n")
    stream = _chunks(read.pairs(path), 2, str(path))
    seen = [next(stream), next(stream)]
    assert seen == [[("a b", "c d"), ("c d", "e f")], [("e f", "g h")]]
    with pytest.raises(DataError, match="line 4"):
        next(stream)


def test_a_chunk_is_given_before_the_next_pair_is_read() -> None:
    def pairs():  # type: ignore[no-untyped-def]
        yield "a", "b"
        raise AssertionError("read too far")

    assert next(_chunks(pairs(), 1, "x")) == [("a", "b")]


def test_rows_left_out_and_guesses_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    corpus = Corpus(
        *(["p"], ["h"], [0]),
        tokenized=False,
        skipped={"malformed": 2},
        source="x.tsv",
        notes=["the first line is taken for a header (--no-header)"],
    )
    assert describe(corpus) == "1 pairs from x.tsv; rows left out: 2 (malformed)"
    said = "note: the first line is taken for a header (--no-header)\n"
    assert capsys.readouterr().err == said


#: Each option of a command on how a source is read, and the argument of `bertnli.read`.
OPTIONS: dict[str, dict[str, Any]] = {
    "--format csv": {"format": "csv"},
    "--delimiter ';'": {"delimiter": ";"},
    r"--delimiter '\t'": {"delimiter": "\t"},
    "--quoted": {"quoted": True},
    "--no-quoted": {"quoted": False},
    "--header": {"header": True},
    "--no-header": {"header": False},
    "--encoding cp1252": {"encoding": "cp1252"},
    "--premise-column 2": {"premise": "2"},
    "--hypothesis-column h": {"hypothesis": "h"},
    "--label-column example.y": {"label": "example.y"},
    "--label-map 0=entailment,1=-": {"label_map": {"0": "entailment", "1": "-"}},
    "--skip-bad-rows": {"on_error": "skip"},
}
#: A line of each command that reads sources, and the columns that it does not read.
READERS: dict[str, tuple[str, ...]] = {
    "train --output x --train y": (),
    "evaluate x y": (),
    "lengths x": (),
    "data x": (),
    "export x y --format onnx --check z": (),
    "predict x y": ("label",),
    "pretrain --output x --text y": ("label", "premise", "hypothesis"),
}


@pytest.mark.parametrize("line", READERS)
def test_every_command_reads_with_the_same_options(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser, argv = make_parser(), line.split()
    assert corpora.reading_of(parser.parse_args(argv)) == {}
    for option, expected in OPTIONS.items():
        if argv[0] == "export":
            option = option.replace("--format", "--table-format")
        words = [*argv, *shlex.split(option)]
        if READERS[line] and next(iter(expected)).startswith(READERS[line]):
            with pytest.raises(SystemExit):
                parser.parse_args(words)
            continue
        assert corpora.reading_of(parser.parse_args(words)) == expected
    with pytest.raises(SystemExit):
        parser.parse_args([*argv, "--header", "--no-header"])
    assert "not allowed with argument --header" in capsys.readouterr().err


def test_a_share_to_hold_out_or_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert corpora.source_or_share("0.1") == 0.1
    (tmp_path / "0.1").write_text("")
    assert corpora.source_or_share("0.1") == "0.1"
    assert corpora.source_or_share("SNLI:dev") == "SNLI:dev"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A run's folder with a checkpoint, made without a framework."""
    vocab = Vocab(["a", "b"], 0, RESERVED_TOKENS)
    config = BERTConfig(len(vocab), 8, 16, 2, 1, 0.1, 12)
    arrays = initial_arrays(classifier_shapes(config, 3), seed=0)
    save_native(tmp_path / "run" / "best", arrays, config, LABELS, vocab)
    return tmp_path / "run"


def test_info_of_a_checkpoint(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(checkpoint), "--json", "--tensors"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["path"] == str(checkpoint / "best")
    assert found["labels"] == list(LABELS)
    assert found["vocabulary"] == found["model"]["vocab_size"] == 7
    assert found["model"]["num_heads"] == 2
    assert found["tensors"]["encoder.pos_embedding"] == {"shape": [1, 12, 8], "dtype": "float32"}
    # Embeddings; one block of attention, FFN and two LayerNorms; pooler; output layer.
    block = 4 * (8 * 8 + 8) + (16 * 8 + 16) + (8 * 16 + 8) + 2 * (8 + 8)
    assert found["parameters"] == (7 + 2 + 12) * 8 + block + (8 * 8 + 8) + (3 * 8 + 3)

    assert main(["info", str(checkpoint)]) == 0
    text = capsys.readouterr().out
    assert "num_hiddens 8" in text
    assert "labels: entailment, contradiction, neutral\n" in text
    assert "W_q" not in text
    assert main(["info", str(checkpoint), "--tensors"]) == 0
    assert "encoder.blks.0.attention.W_q.weight" in capsys.readouterr().out


def test_info_tells_what_does_not_fit(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vocab = checkpoint / "best" / "vocab.json"
    tokens = json.loads(vocab.read_text())
    vocab.write_text(json.dumps(tokens[:-1]))
    assert "the vocabulary has 6 tokens, the model 7" in fails(capsys, "info", str(checkpoint))
    vocab.write_text(json.dumps(tokens))
    config = checkpoint / "best" / "config.json"
    described = json.loads(config.read_text())
    config.write_text(json.dumps({**described, "labels": ["yes", "no"]}))
    assert main(["info", str(checkpoint), "--json"]) == 0
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert problem.startswith("2 names for 3 outputs; give the names in the order of the logits")


def test_info_of_what_is_no_checkpoint(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no checkpoint" in fails(capsys, "info", str(tmp_path / "empty"))
    (tmp_path / "text.txt").write_text("x")
    assert "neither a zip nor" in fails(capsys, "info", str(tmp_path / "text.txt"))
    weights = checkpoint / "best" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    assert "damaged" in fails(capsys, "info", str(checkpoint))


#: Red; another title of the window; the same in C1; text from right to left.
CODES = "\x1b[31m\x1b]0;title\x07\x9b2J\u202e"


def unsafe(text: str) -> str:
    """The characters of a text that a terminal would obey."""
    return "".join(re.findall("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text))


def test_escape_codes_do_not_reach_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / f"run{CODES}"
    vocab = Vocab(["a", "b"], 0, RESERVED_TOKENS)
    config = BERTConfig(len(vocab), 8, 16, 2, 1, 0.1, 12)
    arrays = initial_arrays(classifier_shapes(config, 3), seed=0)
    save_native(folder, arrays, config, ("yes" + CODES, "no", "so"), vocab)
    table = tmp_path / f"{CODES}.tsv"
    table.write_text(f"gold{CODES}\tone\ttwo\nyes\ta\tb\n")
    lengths = ["lengths", str(table), "--checkpoint", str(folder)]
    commands = [
        (["info", str(folder)], 0),
        (["info", str(folder / CODES)], 2),
        (["predict", str(folder), f"{table}2"], 2),
        (["predict", str(folder), "--labels", f"x,{CODES}", "--pair", "a", "b"], 2),
        (lengths, 2),
        ([*lengths, "--label-column", f"gold{CODES}"], 2),
        ([*lengths, "--premise-column", "one", "--hypothesis-column", f"two{CODES}"], 2),
        (["download", CODES], 2),
    ]
    for argv, status in commands:
        assert main(argv) == status, argv
        found = capsys.readouterr()
        assert unsafe(found.out + found.err) == "", argv
    assert main(commands[0][0]) == 0
    text = capsys.readouterr().out
    assert r"yes\x1b[31m\x1b]0;title\x07\x9b2J\u202e, no, so" in text
    assert main([*commands[0][0], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"][0] == "yes" + CODES
    with pytest.raises(SystemExit):
        main(["info", "x", f"--{CODES}"])
    assert unsafe(capsys.readouterr().err) == ""


def test_what_is_printed_is_otherwise_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    text = "tab\tline\nü 😀 %d\r\n" + "\r 50%|█"
    with printable_output():
        print(text)
        print("half a character, of a file's name: \udcff", file=sys.stderr)
        sys.stderr.write("\r 50%|█")  # a bar begins its line again
    found = capsys.readouterr()
    assert found.out == text.replace("\r", r"\r") + "\n"
    assert found.err == "half a character, of a file's name: \\udcff\n\r 50%|█"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://u:pass@h/x.zip?token=abc#f: no", "https://***@h/x.zip?***: no"),
        ("https:/u:pass@h/x.zip: no such file", "https:/***@h/x.zip: no such file"),
        ("a url: /x.zip?token=abc (Caused by X)", "a url: /x.zip?*** (Caused by X)"),
        ("http://u:pa/s?s#@host:80/x, 'y'", "http://***@host:80/x, 'y'"),
        ("http://u:pa's @s@host/x is", "http://***@host/x is"),
        ("git+ssh://token@h/x", "git+ssh://***@h/x"),
        ("u:pass@h/x.zip", "***@h/x.zip"),
        ("('http://h/x?abc', None)", "('http://h/x?***', None)"),
        (
            "http://[::1]:8000/a@b/c.zip is here. Is it?",
            "http://[::1]:8000/a@b/c.zip is here. Is it?",
        ),
        ("http://h:80/x: ask me@example.org", "http://h:80/x: ask me@example.org"),
        ("'bert.smal'. Did you mean 'bert.small'? Yes=1", None),
    ],
)
def test_secrets_of_urls_are_not_shown(text: str, shown: str | None) -> None:
    assert without_secrets(text) == (text if shown is None else shown)
    assert str(DownloadError(text)) == without_secrets(text)


@pytest.mark.parametrize("text", ["9" * 10**6, "a: " * 10**6, "\\x8a\x01" * 10**6, " " * 10**6])
def test_a_long_message_is_cut_in_its_middle(text: str) -> None:
    """A damaged file may put all that it holds into one; to look through it took half a minute."""
    begin, end = "the file is damaged: ", " Copy it anew"
    for said in (str(CheckpointError(begin + text + end)), without_secrets(begin + text + end)):
        assert said.startswith(begin.rstrip()) and said.endswith(end) and len(said) < 2100


@pytest.mark.parametrize(
    "url",
    ["https://me:{}@host/a", "me:{}@host", "https://h/a?token={}", "h/a?t={}"],
)
def test_no_piece_of_a_secret_is_left_where_a_message_is_cut(url: str) -> None:
    secret, filling = "s3cr3tv4l", "a " * 1000
    url = url.format(secret)
    for place in range(40):
        for text in (
            "a" * (MAX_MESSAGE - ITS_END - place) + f" {url} {filling}",
            f"{filling}{url} " + "b" * (ITS_END - place),
        ):
            said = str(DownloadError(text))
            assert not [i for i in range(len(secret) - 1) if secret[i : i + 2] in said]


@pytest.mark.parametrize(
    "argv",
    [
        ["download", "{}"],
        ["info", "{}"],
        ["predict", "{}", "--pair", "a", "b"],
        ["train", "--pretrained", "{}", "--train", "{}", "--output", "{}"],
        ["evaluate", "bert.mini", "{}"],
        ["lengths", "{}"],
        ["data", "{}"],
    ],
    ids=lambda argv: argv[0],
)
def test_commands_show_no_secrets_of_urls(
    argv: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(fetch, "ATTEMPTS", 1)
    monkeypatch.chdir(tmp_path)
    url = "http://user:secret@127.0.0.1:1/x.zip?token=secret"
    with suppress(SystemExit):
        assert main([word.format(url) for word in argv]) == 2
    found = capfd.readouterr()
    assert "secret" not in found.out + found.err
    assert found.err


def test_download(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", "--list"]) == 0
    listed = capsys.readouterr().out
    assert "bert.small  mxnet, torch\n" in listed
    assert "SNLI        any\n" in listed
    with zipfile.ZipFile(tmp_path / "corpus.zip", "w") as archive:
        archive.writestr("corpus/readme", "text")
    argv = ["download", str(tmp_path / "corpus.zip"), "--folder", str(tmp_path / "here")]
    assert main(argv) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert (folder / "readme").read_text() == "text"
    assert tmp_path / "here" in folder.parents


def test_download_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Did you mean 'bert.small'" in fails(capsys, "download", "bert.smal")
    assert "either a name" in fails(capsys, "download")
    assert "either a name" in fails(capsys, "download", "SNLI", "--list")


def test_settings_are_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ("train", "--output", str(tmp_path / "run"), "--train", "no-such-file.tsv")
    assert "lr is -1.0" in fails(capsys, *argv, "--lr", "-1")
    assert "num_epochs is 0" in fails(capsys, *argv, "--epochs", "0")
    assert "warmup is 2.0" in fails(capsys, *argv, "--warmup", "2")
    assert not (tmp_path / "run").exists()


def test_predict_wants_a_pair_or_a_source(capsys: pytest.CaptureFixture[str]) -> None:
    pair = ("predict", "x", "--pair", "A man.", "A dog.")
    for more in (["--format", "tsv"], ["--split", "dev"]):
        assert "either --pair or a source" in fails(capsys, *pair, *more)
    assert "either --pair or a source" in fails(capsys, *pair[:2], "x.tsv", *pair[2:])
    assert "no such file" in fails(capsys, "predict", "bert.mini", "no-such.tsv")
