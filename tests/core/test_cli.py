"""The command line without a framework: options, input, errors, what needs no tensors."""

from __future__ import annotations

import argparse
import gzip
import json
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import processes
import pytest

from bertnli.checkpoints.native import save_native
from bertnli.cli import COMMANDS, corpora, main, make_parser
from bertnli.cli.pair_lines import format_of, open_pairs, pairs_of
from bertnli.cli.predict import _chunks
from bertnli.config import BERTConfig
from bertnli.data.corpus import Corpus
from bertnli.errors import ConfigError, DataError
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
        ["train", "--data", "sample"],
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
    assert done.stderr == "bertnli info: no/such/folder: no such file or folder\n"


def test_the_command_line_imports_no_framework() -> None:
    code = "import sys, bertnli.cli; print({'torch', 'mxnet'} & set(sys.modules))"
    assert run_module("-c", code).stdout == "set()\n"


def test_a_closed_pipe_ends_a_command_quietly() -> None:
    command = [sys.executable, "-m", "bertnli", "download", "--list"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(processes.LIMIT) == 141


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
    argv = ("predict", "--checkpoint", "x", "A man.")
    assert "1 sentences were given" in fails(capsys, *argv)
    assert "not both" in fails(capsys, *argv, "A dog.", "--file", "x.tsv")
    assert "No such file" in fails(capsys, "predict", "--checkpoint", "x", "--file", "no-such.tsv")
