"""The command line without a framework: options, input, errors, what needs no tensors."""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import processes
import pytest
from bertnli.data.lines import BoundedLines

from bertnli import fetch
from bertnli.checkpoints.native import save_native
from bertnli.cli import COMMANDS, corpora, main, make_parser
from bertnli.cli.pair_lines import format_of, open_pairs, pairs_of
from bertnli.cli.predict import _chunks
from bertnli.cli.terminal import printable_output
from bertnli.config import BERTConfig
from bertnli.data.corpus import Corpus
from bertnli.errors import (
    ITS_END,
    MAX_MESSAGE,
    CheckpointError,
    ConfigError,
    DataError,
    DownloadError,
    without_secrets,
)
from bertnli.labels import LABELS
from bertnli.parameters import classifier_shapes, initial_arrays
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


def test_lines_that_never_end(tmp_path: Path) -> None:
    class Endless(io.RawIOBase):
        def read1(self, size: int) -> bytes:
            return b"a" * size

    with pytest.raises(DataError, match=r"standard input, line 1: .* more than 4,194,304 bytes"):
        list(pairs_of(io.BufferedReader(BoundedLines(Endless(), "standard input")), "x"))
    pieces = iter([b"a", b"\tb", b"\nc\td\n", b""])
    one_by_one = type("Pipe", (), {"read1": lambda self, size: next(pieces)})()
    lines = io.BufferedReader(BoundedLines(one_by_one, "standard input"))
    assert list(pairs_of(lines, "x")) == [("a", "b"), ("c", "d")]


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
        ["evaluate", "run", "--data", "sample", "--file", "x.tsv"],
        ["evaluate", "run", "--data", "sample", "--batch-size", "0"],
        ["evaluate", "run", "--data", "sample", "--backend", "jax"],
        ["train", "--train", "sample"],
        ["train", "--output", "x"],
        ["train", "--output", "x", "--data", "sample", "--model", "bert.base", "--pretrained", "y"],
        ["train", "--output", "x", "--train", "y.tsv", "--label-map", "0:entailment"],
        ["train", "--output", "x", "--train", "y.tsv", "--labels", "yes,yes"],
        ["train", "--output", "x", "--data", "sample", "--epoch", "3"],
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


def pairs(text: str | bytes, **options: object) -> list[tuple[str, str]]:
    data = text.encode() if isinstance(text, str) else text
    return list(pairs_of(data.splitlines(keepends=True), "input", **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("a b\tc d\n\"e\t'f\n", {}),
        ("a b\tc d\r\n\"e\t'f", {}),
        ("sentence1\tsentence2\na b\tc d\n\"e\t'f\n", {}),
        ("\ufeffid\thypothesis\tpremise\n1\tc d\ta b\n2\t'f\t\"e\n", {}),
        ("text\tclaim\na b\tc d\n\"e\t'f\n", {"columns": ("text", "claim")}),
        ('a b,c d\n"""e",\'f\n', {"format": "csv"}),
        ('claim,"text"\nc d,a b\n\'f,"""e"\n', {"format": "csv", "columns": ("text", "claim")}),
        ('{"premise": "a b", "hypothesis": "c d"}\n{"sentence1": "\\"e", "sentence2": "\'f"}', {}),
        ('\ufeff{"x": "a b", "y": "c d"}\n{"x": "\\"e", "y": "\'f"}', {"columns": ("x", "y")}),
    ],
    ids=lambda value: None if isinstance(value, dict) else repr(value),
)
def test_pairs_are_read_in_every_form(text: str, options: dict) -> None:
    assert pairs(text, **options) == [("a b", "c d"), ('"e', "'f")]


def test_no_lines_are_no_pairs() -> None:
    assert pairs("") == []
    assert pairs("", format="csv") == []


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a\tb\nc\n", {}, "line 2: columns: 1; expected: 2, premise and hypothesis"),
        ("a\tb\n\n", {}, "line 2: columns: 1"),
        ("a\tb\tc\n", {}, "line 1: columns: 3"),
        ("a\tb\nc\t \n", {}, "line 2: the hypothesis is ' '"),
        ("premise\thypothesis\nc\td\te\n", {}, "line 2: columns: 3; expected: 2, as in the header"),
        ("a\tb\n", {"columns": ("x", "y")}, r"line 1: no columns \['x', 'y'\]; the header has"),
        ('a,b\n"c\nd",e\nf\n', {"format": "csv"}, "line 4: columns: 1"),
        ('a,b\n"c"d,e\n', {"format": "csv"}, "line 2: not CSV"),
        ('{"premise": "a", "hypothesis": "b"}\n{"premise": "c"}\n', {}, "line 2: no .*the object"),
        ('{"premise": "a", "hypothesis": 3}\n', {}, "line 1: the hypothesis is 3"),
        ('{"premise": "a"\n', {}, "line 1: not JSON"),
        ('{"premise": "a", "hypothesis": "b", "premise": "c"}\n', {}, "line 1: .*key, 'premise'"),
        ('["a", "b"]\n', {"format": "jsonl"}, "line 1: a JSON object is expected"),
        (b"a\tb\nc\t\xff\n", {}, "line 2: not UTF-8"),
    ],
    ids=lambda value: repr(value) if isinstance(value, str | bytes) else None,
)
def test_a_bad_line_is_an_error_with_its_number(
    text: str | bytes, options: dict, message: str
) -> None:
    with pytest.raises(DataError, match=f"input, {message}"):
        pairs(text, **options)


def test_gzipped_pairs(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n"))
    assert format_of(path) == "csv"
    with open_pairs(path) as file:
        assert list(pairs_of(file, "x", "csv")) == [("a", "b")]
    path.write_bytes(gzip.compress(b"a,b\n" * 1000)[:-10])
    with open_pairs(path) as file, pytest.raises(DataError, match="damaged archive"):
        list(pairs_of(file, "x", "csv"))


def test_a_pipe_that_the_shell_has_opened() -> None:
    read, write = os.pipe()
    os.write(write, b"a\tb\n")
    os.close(write)
    with open_pairs(f"/dev/fd/{read}") as file:
        assert list(pairs_of(file, "x")) == [("a", "b")]
    os.close(read)


def test_a_name_without_a_known_ending_tells_no_format() -> None:
    assert format_of("pairs") is None
    assert format_of("pairs.gz") is None


def test_pairs_before_a_bad_line_are_not_lost() -> None:
    chunks = []
    lines = pairs_of([b"a\tb\n", b"c\td\n", b"e\tf\n", b"g\n"], "input")
    with pytest.raises(DataError, match="line 4"):
        chunks.extend(iter(_chunks(lines, 2)))
    seen = []
    lines = pairs_of([b"a\tb\n", b"c\td\n", b"e\tf\n", b"g\n"], "input")
    stream = _chunks(lines, 2)
    seen.append(next(stream))
    seen.append(next(stream))
    assert seen == [[("a", "b"), ("c", "d")], [("e", "f")]]


def test_a_chunk_is_given_before_the_next_line_is_read() -> None:
    def lines():  # type: ignore[no-untyped-def]
        yield b"a\tb\n"
        raise AssertionError("read too far")

    assert next(_chunks(pairs_of(lines(), "input"), 1)) == [("a", "b")]


def test_rows_left_out_are_told() -> None:
    corpus = Corpus(["p"], ["h"], [0], tokenized=False, skipped={"malformed": 2}, source="x.tsv")
    assert corpora.describe(corpus) == "1 pairs from x.tsv; rows left out: 2 (malformed)"


def test_options_of_a_table_do_not_go_with_a_known_corpus() -> None:
    args = make_parser().parse_args(
        ["evaluate", "run", "--data", "sample", "--label-map", "0=neutral"]
    )
    with pytest.raises(ConfigError, match="leave them out"):
        corpora.read_split(args, "dev")


def table_args(*argv: str) -> argparse.Namespace:
    return make_parser().parse_args(["train", "--output", "x", "--train", "y", *argv])


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_text("y,p,h\n1,A man.,A dog.\n7,A man.,A cat.\n")
    options = ["--format", "csv", "--premise-column", "p", "--hypothesis-column", "h"]
    options += ["--label-column", "y"]
    options += ["--label-map", "0=entailment, 1=neutral", "--skip-bad-rows"]
    corpus = corpora.read_table(table_args(*options), str(path), LABELS)
    assert tuple(corpus) == (["A man."], ["A dog."], [LABELS.index("neutral")])
    assert corpus.skipped == {"malformed": 1}
    with pytest.raises(DataError, match="line 3"):
        corpora.read_table(table_args(*options[:-1]), str(path), LABELS)


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
    lengths = ["lengths", "--file", str(table), "--checkpoint", str(folder)]
    commands = [
        (["info", str(folder)], 0),
        (["info", str(folder / CODES)], 2),
        (["predict", str(folder), "--file", f"{table}2"], 2),
        (["predict", str(folder), "--labels", f"x,{CODES}", "a", "b", "c"], 2),
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
        ["predict", "{}", "a", "b"],
        ["train", "--pretrained", "{}", "--train", "{}", "--output", "{}"],
        ["evaluate", "--checkpoint", "x", "--data", "{}"],
        ["lengths", "--data", "{}"],
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


def test_predict_wants_two_sentences_or_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("predict", "x", "A man.")
    assert "1 sentences were given" in fails(capsys, *argv)
    assert "not both" in fails(capsys, *argv, "A dog.", "--file", "x.tsv")
    assert "No such file" in fails(capsys, "predict", "x", "--file", "no-such.tsv")
