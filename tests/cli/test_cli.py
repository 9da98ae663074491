"""The command line without a framework: options, input, errors, messages."""

import inspect
import json
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

from bertnli.bert.config import BERTConfig
from bertnli.bert.labels import LABELS
from bertnli.bert.parameters import classifier_shapes, initial_arrays
from bertnli.cli import COMMANDS, SHELLS, main, parse
from bertnli.cli.parser import arguments
from bertnli.cli.terminal import printable_output
from bertnli.errors import ITS_END, MAX_MESSAGE, CheckpointError, DownloadError, without_secrets
from bertnli.formats.native import save_native
from bertnli.hub import fetch
from bertnli.text.vocab import RESERVED_TOKENS, Vocab
from bertnli.version import __version__

ROOT = Path(__file__).resolve().parents[2]


def examples():
    """Return the arguments of each example in the commands' help."""
    lines = []
    for command in COMMANDS.values():
        text = (inspect.getdoc(command) or "").partition("\nexample")[2].replace("\\\n", "")
        for line in text.splitlines()[1:]:
            words = shlex.split(line) if line.startswith("  ") and line[2] != " " else []
            if "bertnli" in words:
                words = words[words.index("bertnli") + 1 :]
                lines.append(words[: words.index(">")] if ">" in words else words)
    return lines


def fails(capsys, *argv):
    """Run a command that must end with status 2 and one line on stderr; return the line."""
    capsys.readouterr()
    assert main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"bertnli {argv[0]}: ")
    return line


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
def test_an_input_that_is_too_large_is_one_message(error, message, capsys, monkeypatch):
    def fail(_):
        raise error

    monkeypatch.setattr(COMMANDS["demo"], "run", fail)
    assert message in fails(capsys, "demo")


@pytest.mark.parametrize("argv", examples(), ids=" ".join)
def test_examples_of_the_help_are_accepted(argv):
    assert isinstance(parse(argv), COMMANDS[argv[0]])


@pytest.mark.parametrize("command", COMMANDS)
def test_each_help_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"\n  bertnli {command} " in capsys.readouterr().out.partition("example")[2]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "evaluate run",
        "evaluate run sample --batch-size 0",
        "evaluate run sample --backend jax",
        "predict",
        "predict run --pair one",
        "train --train sample",
        "train --output x",
        "train --output x --train sample --model bert.base --pretrained y",
        "train --output x --train sample --overwrite --resume",
        "train --output x --train y.tsv --label-map 0:entailment",
        "train --output x --train sample --epoch 3",
        "train --output x --train sample --save-every 10x",
        "pretrain --output x --text y --min-freq 2 --word-pieces 100",
        "data x --header --no-header",
        "serve --port 65536",
        "launch --workers 2 --address host",
    ],
)
def test_wrong_usage_is_refused_by_the_parser(line):
    with pytest.raises(SystemExit) as end:
        parse(line.split())
    assert end.value.code == 2


def test_options_become_arguments():
    """Groups are flattened, options that are not given are left out, defaults stay."""
    line = "train --output x --train a b --epochs 3 --resume --no-header --dev 0.1 --save-every 5m"
    given = arguments(parse([*line.split(), "--soft-labels"]), "quiet", "keep", "rank_timeout")
    assert str(given.pop("save_every")) == "0:05:00"
    assert not any(given.pop(name) for name in ("overwrite", "new_head", "auto_batch"))
    given = {name: value for name, value in given.items() if value is not False or name == "header"}
    assert given == {
        "output": "x",
        "train": ["a", "b"],
        "num_epochs": 3,
        "resume": True,
        "header": False,
        "dev": 0.1,
        "probabilities": "probabilities",
        "recipe": "book",
        "precision": "fp32",
    }


def run_module(*argv):
    return processes.run([sys.executable, *argv], cwd=ROOT)


def test_the_command_as_a_process():
    done = run_module("-m", "bertnli", "--help")
    assert done.returncode == 0, done.stderr
    assert all(re.search(rf"^    {name}\b", done.stdout, re.MULTILINE) for name in COMMANDS)
    assert run_module("-m", "bertnli", "--version").stdout == f"bertnli {__version__}\n"
    done = run_module("-m", "bertnli", "info", "no/such/folder")
    message = "no such file or folder; with bertnli comes bert.mini"
    assert done.returncode == 2
    assert done.stderr == f"bertnli info: no/such/folder: {message}\n"
    code = "import sys, bertnli.cli; print({'torch', 'mxnet'} & set(sys.modules))"
    assert run_module("-c", code).stdout == "set()\n"


def test_a_closed_pipe_ends_a_command_quietly():
    command = [sys.executable, "-m", "bertnli", "download", "--list"]
    pipe = subprocess.PIPE
    with processes.Process(command, cwd=ROOT, stdout=pipe, stderr=pipe) as process:
        process.stdout.close()
        process.stdout = None
        assert process.finish() == (None, "")
        assert process.returncode == 141


#: Options on how a source is read, and the arguments of `bertnli.read` that they become.
OPTIONS = {
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
#: A line of each command that reads sources, and prefixes of the arguments that it lacks.
READERS = {
    "train --output x --train y": (),
    "evaluate x y": (),
    "lengths x": (),
    "data x": (),
    "export x y --format onnx --check z": (),
    "predict x y": ("label",),
    "pretrain --output x --text y": ("label", "premise", "hypothesis"),
}


@pytest.mark.parametrize("line", READERS)
def test_every_command_reads_with_the_same_options(line):
    assert arguments(parse(line.split()).reading) == {}
    for option, expected in OPTIONS.items():
        if line.startswith("export"):
            option = option.replace("--format", "--table-format")
        words = [*line.split(), *shlex.split(option)]
        if READERS[line] and next(iter(expected)).startswith(READERS[line]):
            with pytest.raises(SystemExit):
                parse(words)
        else:
            assert arguments(parse(words).reading) == expected


def test_dev_is_a_share_or_a_source(tmp_path, monkeypatch):
    def dev(text):
        return parse(["train", "--output", "x", "--train", "y", "--dev", text]).dev

    monkeypatch.chdir(tmp_path)
    assert dev("0.1") == 0.1
    (tmp_path / "0.1").write_text("")
    assert dev("0.1") == "0.1" and dev("SNLI:dev") == "SNLI:dev"


def save(folder, labels=LABELS):
    """Write a checkpoint without a framework."""
    vocab = Vocab(["a", "b"], 0, RESERVED_TOKENS)
    config = BERTConfig(len(vocab), 8, 16, 2, 1, 0.1, 12)
    save_native(folder, initial_arrays(classifier_shapes(config, 3), 0), config, labels, vocab)


@pytest.fixture
def checkpoint(tmp_path):
    """A run's folder with a checkpoint."""
    save(tmp_path / "run" / "best")
    return tmp_path / "run"


def test_info_of_a_checkpoint(checkpoint, capsys):
    assert main(["info", str(checkpoint), "--json", "--tensors"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["path"] == str(checkpoint / "best")
    assert values["labels"] == list(LABELS)
    assert values["vocabulary"] == values["model"]["vocab_size"] == 7
    assert values["tensors"]["encoder.pos_embedding"] == {"shape": [1, 12, 8], "dtype": "float32"}
    # Embeddings; a block's attention, feed-forward network and two LayerNorms; pooler; output.
    block = 4 * (8 * 8 + 8) + (16 * 8 + 16) + (8 * 16 + 8) + 2 * (8 + 8)
    assert values["parameters"] == (7 + 2 + 12) * 8 + block + (8 * 8 + 8) + (3 * 8 + 3)
    assert main(["info", str(checkpoint)]) == 0
    text = capsys.readouterr().out
    assert "num_hiddens 8" in text and "W_q" not in text
    assert "labels: entailment, contradiction, neutral\n" in text
    assert main(["info", str(checkpoint), "--tensors"]) == 0
    assert "encoder.blks.0.attention.W_q.weight" in capsys.readouterr().out


def test_info_names_the_problems_of_a_checkpoint(checkpoint, tmp_path, capsys):
    for name, key, size, expected in (
        ("vocab.json", None, 6, "the vocabulary has 6 tokens, the model rows for 7"),
        ("config.json", "labels", 2, "2 names for 3 outputs"),
    ):
        path = checkpoint / "best" / name
        text = path.read_text()
        content = json.loads(text)
        part = content[:size] if key is None else {**content, key: content[key][:size]}
        path.write_text(json.dumps(part))
        assert main(["info", str(checkpoint), "--json"]) == 0
        (problem,) = json.loads(capsys.readouterr().out)["problems"]
        assert expected in problem
        path.write_text(text)
    weights = checkpoint / "best" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    assert "damaged" in fails(capsys, "info", str(checkpoint))
    (tmp_path / "empty").mkdir()
    assert "holds no checkpoint" in fails(capsys, "info", str(tmp_path / "empty"))


#: Terminal codes: red; a window's title; clear, in C1; text from right to left.
CODES = "\x1b[31m\x1b]0;title\x07\x9b2J\u202e"
UNSAFE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def test_escape_codes_do_not_reach_a_terminal(tmp_path, capsys):
    folder, table = tmp_path / f"run{CODES}", tmp_path / f"{CODES}.tsv"
    save(folder, ("yes" + CODES, "no", "so"))
    table.write_text(f"gold{CODES}\tone\ttwo\nyes\ta\tb\n")
    for argv, status in (
        (["info", str(folder)], 0),
        (["info", str(folder / CODES)], 2),
        (["predict", str(folder), "--labels", f"x,{CODES}", "--pair", "a", "b"], 2),
        (["lengths", str(table), "--checkpoint", str(folder)], 2),
        (["download", CODES], 2),
    ):
        assert main(argv) == status, argv
        assert not UNSAFE.search("".join(capsys.readouterr())), argv
    assert main(["info", str(folder)]) == 0
    text = capsys.readouterr().out
    assert r"yes\x1b[31m\x1b]0;title\x07\x9b2J\u202e, no, so" in text
    assert main(["info", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"][0] == "yes" + CODES
    with pytest.raises(SystemExit):
        main(["info", "x", f"--{CODES}"])
    assert not UNSAFE.search(capsys.readouterr().err)
    with printable_output():
        print("tab\tline\nü 😀 %d")
        sys.stderr.write("\r 50%|█")  # a progress bar starts its line again
    assert capsys.readouterr() == ("tab\tline\nü 😀 %d\n", "\r 50%|█")


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("https://u:pass@h/x.zip?token=abc#f: no", "https://***@h/x.zip?***: no"),
        ("https:/u:pass@h/x.zip: no such file", "https:/***@h/x.zip: no such file"),
        ("a url: /x.zip?token=abc (Caused by X)", "a url: /x.zip?*** (Caused by X)"),
        ("http://u:pa's?s#@host:80/x, 'y'", "http://***@host:80/x, 'y'"),
        ("git+ssh://token@h/x", "git+ssh://***@h/x"),
        ("u:pass@h/x.zip", "***@h/x.zip"),
        ("http://[::1]:80/a@b/c.zip is here. Is it?", "http://[::1]:80/a@b/c.zip is here. Is it?"),
        ("'bert.smal'. Did you mean 'bert.small'?", "'bert.smal'. Did you mean 'bert.small'?"),
    ],
)
def test_secrets_of_urls_are_not_shown(text, public):
    assert without_secrets(text) == str(DownloadError(text)) == public


@pytest.mark.parametrize("text", ["9" * 10**6, "a: " * 10**6, "\\x8a\x01" * 10**6, " " * 10**6])
def test_a_long_message_is_cut_in_its_middle(text):
    """A message may quote a damaged file; the search for secrets in it must not be slow."""
    begin, end = "the file is damaged: ", " Copy it anew"
    message = begin + text + end
    for cut in (str(CheckpointError(message)), without_secrets(message)):
        assert cut.startswith(begin.rstrip()) and cut.endswith(end) and len(cut) < 2100


@pytest.mark.parametrize("url", ["https://me:{}@host/a", "me:{}@host", "https://h/a?token={}"])
def test_a_cut_leaves_no_piece_of_a_secret(url):
    secret, filling = "s3cr3tv4l", "a " * 1000
    url = url.format(secret)
    for place in range(40):
        for text in (
            "a" * (MAX_MESSAGE - ITS_END - place) + f" {url} {filling}",
            f"{filling}{url} " + "b" * (ITS_END - place),
        ):
            message = str(DownloadError(text))
            assert not [i for i in range(len(secret) - 1) if secret[i : i + 2] in message]


@pytest.mark.parametrize(
    "line",
    [
        "download {}",
        "info {}",
        "train --pretrained {} --train {} --output {}",
        "evaluate bert.mini {}",
        "data {}",
    ],
)
def test_commands_show_no_secrets_of_urls(line, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(fetch, "RETRY", 0)
    monkeypatch.chdir(tmp_path)
    url = "http://user:secret@127.0.0.1:1/x.zip?token=secret"
    with suppress(SystemExit):
        assert main([word.format(url) for word in line.split()]) == 2
    captured = capfd.readouterr()
    assert captured.err and "secret" not in captured.out + captured.err


def test_download(tmp_path, capsys):
    assert main(["download", "--list"]) == 0
    names = capsys.readouterr().out
    assert "bert.small  mxnet, torch\n" in names and "SNLI        any\n" in names
    with zipfile.ZipFile(tmp_path / "corpus.zip", "w") as archive:
        archive.writestr("corpus/readme", "text")
    argv = ["download", str(tmp_path / "corpus.zip"), "--folder", str(tmp_path / "here")]
    assert main(argv) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert (folder / "readme").read_text() == "text" and tmp_path / "here" in folder.parents
    assert "either a name" in fails(capsys, "download")
    assert "either a name" in fails(capsys, "download", "SNLI", "--list")


def test_settings_are_checked_before_anything_is_read(tmp_path, capsys):
    argv = ("train", "--output", str(tmp_path / "run"), "--train", "no-such-file.tsv")
    assert "lr is -1.0" in fails(capsys, *argv, "--lr", "-1")
    assert "--labels" in fails(capsys, *argv, "--labels", "yes,yes")
    assert not (tmp_path / "run").exists()


#: What bash does when Tab is pressed. Arguments: the script of completion, and the words.
PRESS_TAB = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
complete -p bertnli > /dev/null || exit 3
function=$(complete -p bertnli | sed -E 's/.*-F ([^ ]+).*/\\1/')
"$function" bertnli "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def test_bash_completes(tmp_path, capsys):
    for shell in SHELLS:
        assert main(["completion", shell]) == 0
        script = capsys.readouterr().out
        assert "bertnli" in script and "tensorboard" in script
        (tmp_path / shell).write_text(script)
    (tmp_path / "here" / "runs").mkdir(parents=True)
    (tmp_path / "here" / "rows.tsv").write_text("")

    def completed(line):
        words = ["bertnli", *line.split(" ")]
        command = ["bash", "--norc", "-c", PRESS_TAB, "bash", str(tmp_path / "bash"), *words]
        done = processes.run(command, cwd=tmp_path / "here")
        assert done.returncode == 0, done.stderr
        return {line.strip() for line in done.stdout.splitlines() if line.strip()}

    assert completed("") >= {*COMMANDS}
    assert completed("do") == {"doctor", "download"}
    assert {"--output", "--tensorboard", "--pretrained", "--resume"} <= completed("train --")
    assert completed("train --backend ") == {"torch", "mxnet"}
    assert completed("train --train r") >= {"rows.tsv"}
    folders = completed("train --output r")
    assert "runs" in folders and "rows.tsv" not in folders


def test_completion_without_shtab(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert 'pip install "bertnli[completion]"' in fails(capsys, "completion", "bash")
