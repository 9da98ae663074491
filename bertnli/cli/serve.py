"""Answer requests over HTTP, and show a page to try a model on.

POST /predict takes {"premise": ..., "hypothesis": ...} or {"pairs": [...]}; concurrent requests are
computed together. /openapi.json describes all paths. SIGTERM answers what is queued and ends with
status 0; the death of a model's thread ends with status 1.

examples:
  bertnli serve
      bert.mini, which comes with bertnli, on http://127.0.0.1:8000
  bertnli serve --checkpoint runs/small --backend both --port 8080
  curl --json '{"premise": "A man is asleep.", "hypothesis": "A man is awake."}' \\
      http://127.0.0.1:8000/predict
"""

from __future__ import annotations

import argparse
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

from bertnli.api.loading import backend_of
from bertnli.backends import NAMES, get_backend
from bertnli.cli import options
from bertnli.serve.limits import Limits

BOTH, LOCAL = "both", ("localhost", "127.0.0.1", "::1")
#: Options that are numbers of at least 1: unit and help; their defaults are those of `Limits`.
BATCH_LIMITS = {
    "max_batch": ("N", "pairs computed at a time"),
    "max_queue": ("N", "pairs that wait for a backend"),
}
CLIENT_LIMITS = {
    "max_pairs": ("N", "pairs of a request"),
    "max_chars": ("N", "characters of a sentence"),
    "max_body": ("BYTES", "size of a request's body"),
    "max_connections": ("N", "open connections"),
}
SECONDS = {
    "read_timeout": "seconds to send a request's body, and that an idle connection stays open",
    "timeout": "seconds that an answer may take",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    options.add_checkpoint_option(parser)
    parser.add_argument(
        "--host", default=LOCAL[1], help="address to listen on (default: %(default)s)"
    )
    parser.add_argument("--port", type=_port, default=8000, help="0 for a free one (default: 8000)")
    parser.add_argument(
        "--allow-host",
        type=_host_name,
        action="append",
        default=[],
        metavar="NAME",
        help="answer requests for this name too; give it again for each name, or * for all "
        "(default: localhost and the address of --host alone)",
    )
    parser.add_argument("--access-log", action="store_true", help="print a line for each request")
    options.add_checkpoint_options(parser)
    options.add_encoding_options(parser)
    batches = parser.add_argument_group("batches")
    _add_numbers(batches, BATCH_LIMITS)
    batches.add_argument(
        "--max-wait",
        type=options.not_negative,
        default=0,
        metavar="MS",
        help="milliseconds that a batch which is not full waits for more pairs (default: 0; the "
        "next batch gathers while one is computed)",
    )
    batches.add_argument(
        "--no-batching", action="store_true", help="compute each request by itself, to compare"
    )
    clients = parser.add_argument_group("limits of a client")
    _add_numbers(clients, CLIENT_LIMITS)
    for name, text in SECONDS.items():
        _add(clients, name, float, "S", text)
    group = parser.add_argument_group("where to compute")
    group.add_argument(
        "--backend",
        choices=(*NAMES, BOTH),
        help=f"the framework, or both side by side (default: the first of {', '.join(NAMES)} that "
        "is installed)",
    )
    group.add_argument(
        "--devices",
        type=options.listed,
        metavar="NAMES",
        help="cpu or gpu:1 (default: a GPU, or else the CPU)",
    )
    options.add_precision_option(group)


def _add_numbers(group: Any, limits: dict[str, tuple[str, str]]) -> None:
    for name, (metavar, text) in limits.items():
        _add(group, name, options.positive, metavar, text)


def _add(group: Any, name: str, convert: Any, metavar: str, text: str) -> None:
    group.add_argument(
        f"--{name.replace('_', '-')}",
        type=convert,
        default=getattr(Limits, name),
        metavar=metavar,
        help=f"{text} (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until a signal ends it."""
    limits = Limits(
        **{name: getattr(args, name) for name in (*BATCH_LIMITS, *CLIENT_LIMITS, *SECONDS)},
        max_wait=args.max_wait / 1000,
        batching=not args.no_batching,
    )
    from bertnli.serve.run import WorkerDied, serve  # needs the extra

    names = NAMES if args.backend == BOTH else (backend_of(args.backend).name,)
    if args.host not in LOCAL:
        print(
            f"warning: --host {args.host} answers other machines, without a login and without TLS; "
            "put a proxy before the server (docs/serve.md), or leave --host out",
            file=sys.stderr,
        )
    try:
        serve(
            {name: partial(_load, args, name) for name in names},
            limits,
            Path(args.checkpoint).resolve().name,  # clients see no folders of the server
            host=args.host,
            port=args.port,
            on_ready=partial(print, flush=True),
            access_log=args.access_log,
            allow_hosts=args.allow_host,
        )
    except WorkerDied as error:
        print(f"bertnli serve: {error}", file=sys.stderr)
        return 1
    return 0


def _load(args: argparse.Namespace, name: str) -> Any:
    """Return the classifier on a backend; runs in the thread that owns it."""
    backend = get_backend(name)
    devices = backend.as_devices(args.devices)
    net = backend.load(args.checkpoint, devices, args.labels, args.num_heads)
    net.precision, reason = backend.as_precision(args.precision, devices[0])
    if reason:
        print(f"precision on {name}: {net.precision}, for {reason}", file=sys.stderr)
    net.encoding = net.encoding.overridden(args.max_len, args.truncation, net.config.max_len)
    return net


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; give 0 to 65535")
    return int(text)


def _host_name(text: str) -> str:
    if not re.fullmatch(r"\*|(\*\.)?[\w.:-]+", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no host; give a name such as nli.example.org"
        )
    return text
