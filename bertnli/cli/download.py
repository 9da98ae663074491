"""Fetch a corpus or a pretrained model by its name, and print the folder of its content.

The file's SHA-1 is checked, and the archive unpacked. What is here already is not fetched again.

examples:
  bertnli download --list
  bertnli download SNLI
  bertnli download bert.small --backend torch --folder models
"""

from __future__ import annotations

import argparse

from bertnli._util.outputs import check_output_folder
from bertnli.backends import NAMES, available_backends
from bertnli.data.sources import SAMPLE
from bertnli.errors import ConfigError
from bertnli.hub.catalogue import BUNDLED, CACHE_VARIABLE, DATA_HUB, download_extract


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="a name of the hub, or a URL")
    parser.add_argument("--list", action="store_true", help="print the names of the hub")
    parser.add_argument(
        "--backend",
        choices=NAMES,
        help="whose file of a pretrained model; the framework need not be installed (default: the "
        "first one that is)",
    )
    parser.add_argument(
        "--folder",
        metavar="DIR",
        help=f"where to keep it (default: the cache folder, which ${CACHE_VARIABLE} moves)",
    )


def run(args: argparse.Namespace) -> int:
    """Download, and print where."""
    if args.list == (args.name is not None):
        raise ConfigError("give either a name to download or --list, which prints the names")
    if args.list:
        width = max(map(len, DATA_HUB), default=0)
        for name, entry in sorted(DATA_HUB.items()):
            print(f"{name:<{width}}  {', '.join(sorted(entry.files))}")
        return 0
    if args.folder is not None:
        check_output_folder(args.folder, "download")
    if args.name == SAMPLE:
        raise ConfigError("the sample comes with bertnli; it is named sample wherever a source is")
    if args.name in BUNDLED:
        raise ConfigError(f"{args.name} comes with bertnli; each command takes its name")
    framework = args.backend or next(iter(available_backends()), None)
    if args.name not in DATA_HUB:  # a corpus may be meant, and is proposed then, or a model
        framework = None
    print(download_extract(args.name, args.folder, framework=framework))
    return 0
