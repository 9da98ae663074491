"""The commands that download, describe and convert checkpoints."""

from __future__ import annotations

import json
from dataclasses import dataclass

from bertnli._util.options import argument, flag, group, option, required
from bertnli._util.outputs import check_output_folder
from bertnli.api.convert import convert, export
from bertnli.api.info import info
from bertnli.backends import NAMES, available_backends
from bertnli.cli import options
from bertnli.cli.parser import Command, arguments
from bertnli.data.formats import FORMATS as TABLE_FORMATS
from bertnli.data.sources import SAMPLE
from bertnli.errors import ConfigError
from bertnli.formats.convert import DTYPES, FORMATS
from bertnli.hub.catalogue import BUNDLED, CACHE_VARIABLE, DATA_HUB, download_extract

ANY_FORMAT = "a checkpoint of any format"


@dataclass(frozen=True, kw_only=True)
class Download(Command):
    """Download a corpus or a pretrained model by its name, and print the folder of its content.

    The file's SHA-1 is checked, and the archive unpacked. Files that are complete already are not
    downloaded again.

    examples:
      bertnli download --list
      bertnli download bert.small --backend torch --folder models
    """

    name: options.Name | None = argument("a name of the hub, or a URL", nargs="?", default=None)
    list: bool = flag("print the names of the hub")
    backend: str | None = option(
        "a pretrained model's framework (default: the first that is installed)", choices=NAMES
    )
    folder: options.Folder | None = option(
        f"folder to keep it in (default: the cache folder, which ${CACHE_VARIABLE} moves)"
    )

    def run(self) -> None:
        if self.list == (self.name is not None):
            raise ConfigError("give either a name to download or --list, which prints the names")
        if self.name is None:
            width = max(map(len, DATA_HUB), default=0)
            for name, files in sorted(DATA_HUB.items()):
                print(f"{name:<{width}}  {', '.join(sorted(files))}")
            return
        if self.folder is not None:
            check_output_folder(self.folder, "download")
        if self.name == SAMPLE:
            raise ConfigError("the sample comes with bertnli; it is named sample as a SOURCE")
        if self.name in BUNDLED:
            raise ConfigError(f"{self.name} comes with bertnli; each command takes its name")
        framework = self.backend or next(iter(available_backends()), None)
        # For an unknown name, the error proposes the names of corpora and of all models.
        framework = framework if self.name in DATA_HUB else None
        print(download_extract(self.name, self.folder, framework=framework))


@dataclass(frozen=True, kw_only=True)
class Info(Command):
    """Show the sizes, classes, vocabulary and tensors of a checkpoint.

    It may be one that bertnli wrote, a pretrained model of the book (a folder or archive with
    pretrained.params and vocab.json), a Hugging Face folder of a BERT, or a .params file of
    GluonNLP with its vocabulary beside it. No framework is needed.

    examples:
      bertnli info runs/sample/last --tensors --json
    """

    path: options.AnyPath = argument("a checkpoint, a run, or a pretrained model")
    tensors: bool = flag("print each tensor's name, shape and type")
    json: bool = options.json_option()

    def run(self) -> None:
        result = info(self.path, self.tensors)
        print(json.dumps(result.values, indent=2) if self.json else result)


@dataclass(frozen=True, kw_only=True)
class Convert(Command):
    """Write a checkpoint in another format, and prove that nothing changed.

    The source may be of any format that `bertnli info` shows. The target is a folder with the
    parameters, the sizes and class names, and the vocabulary. Every tensor is read back and
    compared by its hash before the target appears, and, if a framework is installed, logits are.

    examples:
      bertnli convert bert.mini mini.torch --to torch
      bertnli convert runs/mine exported --to bertnli --dtype float16
      bertnli convert some-bert exported --to huggingface
      bertnli convert some-bert mine --to bertnli --labels contradiction,entailment,neutral
    """

    source: str = argument(ANY_FORMAT, metavar="SRC")
    target: str = argument("a new folder", metavar="DST")
    to: str = required("the format", choices=sorted(FORMATS))
    dtype: str | None = option(
        "type to round the tensors to; float16 takes half the space", choices=DTYPES
    )
    unnamed: options.Unnamed = group(options.Unnamed)

    def run(self) -> None:
        print(*convert(**arguments(self)), sep="\n")


@dataclass(frozen=True)
class CheckReading(options.Reading):
    """`Reading` for `bertnli export`: --table-format, since --format is the output's."""

    format: str | None = option("format of the file", "--table-format", choices=TABLE_FORMATS)


@dataclass(frozen=True, kw_only=True)
class Export(Command):
    """Write a checkpoint as an ONNX graph, for onnxruntime and other programs.

    DST is a new folder, which gets model.onnx and the vocabulary; or a new file that ends in .onnx,
    for the graph alone. The graph's metadata hold class names (labels), sizes (model) and how pairs
    were cut in training (encoding). The outputs of onnxruntime are compared with the tensors. With
    --int8 there is model.int8.onnx, too, a third of the size; --check shows its accuracy.

    examples:
      bertnli export runs/mine exported --format onnx --int8 --check sample
      bertnli export some-bert exported --format onnx --labels contradiction,entailment,neutral
    """

    source: str = argument(ANY_FORMAT, metavar="SRC")
    target: str = argument("a new folder, or a new file NAME.onnx", metavar="DST")
    to: str = required("the format", "--format", choices=["onnx"])
    int8: bool = flag("write the graph with int8 weights too")
    check: options.Source | None = option(f"pairs to score the graphs on: {options.SOURCE_HELP}")
    split: options.Name | None = options.split_option()
    unnamed: options.Unnamed = group(options.Unnamed)
    cut: options.Cut = group(options.Cut)
    batch_size: options.Count = options.batch_size_option(default=64)
    reading: CheckReading = options.reading_group(CheckReading)

    def run(self) -> None:
        if self.check is not None:
            options.note_test_split([self.check], self.split)
        print(export(**arguments(self, "to")))
