"""Answer requests over HTTP, and show a page to try a model on.

POST /predict takes {"premise": ..., "hypothesis": ...} or {"pairs": [...]}; concurrent requests are
computed together. /health, /metrics and /openapi.json say what they are called. SIGTERM answers
what is queued and ends with status 0; the death of a model's thread ends with status 1.

examples:
  bertnli serve
      bert.mini, which comes with bertnli, on http://127.0.0.1:8000
  bertnli serve --checkpoint runs/small --backend both --port 8080
  curl -d '{"premise": "A man is asleep.", "hypothesis": "A man is awake."}' \\
      http://127.0.0.1:8000/predict
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bertnli.api.loading import backend_of
from bertnli.backends import NAMES, get_backend
from bertnli.cli import options
from bertnli.serve.limits import Limits

BOTH = "both"
DIED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    options.add_checkpoint_option(parser)
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine's own)"
    )
    parser.add_argument("--port", type=_port, default=8000, help="0 for a free one (default: 8000)")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="answer requests for this name too, and those of its pages; give it again for each "
        "name, or * for all (default: localhost and the address of --host alone)",
    )
    parser.add_argument("--access-log", action="store_true", help="print a line for each request")
    options.add_checkpoint_options(parser)
    options.add_encoding_options(parser)
    _add_batch_options(parser.add_argument_group("batches"))
    _add_limit_options(parser.add_argument_group("limits of a client"))
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


def _add_batch_options(group: Any) -> None:
    _add_number(group, "--max-batch", Limits.max_batch, "N", "pairs computed at a time")
    group.add_argument(
        "--max-wait",
        type=options.not_negative,
        default=0,
        metavar="MS",
        help="milliseconds that a batch which is not full waits for more pairs (default: 0: while "
        "one is computed, the next one gathers)",
    )
    _add_number(group, "--max-queue", Limits.max_queue, "N", "pairs that wait for a backend")
    group.add_argument(
        "--no-batching", action="store_true", help="compute each request by itself, to compare"
    )


def _add_limit_options(group: Any) -> None:
    _add_number(group, "--max-pairs", Limits.max_pairs, "N", "pairs of a request")
    _add_number(group, "--max-chars", Limits.max_chars, "N", "characters of a sentence")
    _add_number(group, "--max-body", Limits.max_body, "BYTES", "of a request's body")
    _add_number(group, "--max-connections", Limits.max_connections, "N", "with a request under way")
    group.add_argument(
        "--read-timeout",
        type=float,
        default=Limits.read_timeout,
        metavar="S",
        help="seconds to send a request's headers, again for its body, and again to take its "
        "answer (default: %(default)g)",
    )
    group.add_argument(
        "--timeout",
        type=float,
        default=Limits.timeout,
        metavar="S",
        help="seconds that an answer may take (default: %(default)g)",
    )


def _add_number(group: Any, name: str, default: int, metavar: str, help: str) -> None:
    group.add_argument(
        name,
        type=options.positive,
        default=default,
        metavar=metavar,
        help=f"{help} (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until a signal ends it."""
    limits = Limits(
        max_batch=args.max_batch,
        max_wait=args.max_wait / 1000,
        max_queue=args.max_queue,
        max_pairs=args.max_pairs,
        max_body=args.max_body,
        max_chars=args.max_chars,
        max_connections=args.max_connections,
        read_timeout=args.read_timeout,
        timeout=args.timeout,
        batching=not args.no_batching,
    )
    from bertnli.serve.run import WorkerDied, is_local, serve  # needs the extra

    names = NAMES if args.backend == BOTH else (backend_of(args.backend).name,)
    loaders: dict[str, Callable[[], Any]] = {name: partial(_load, args, name) for name in names}
    try:
        serve(
            loaders,
            limits,
            Path(args.checkpoint).resolve().name,  # the folders above are nobody else's business
            host=args.host,
            port=args.port,
            say=partial(_say, None if is_local(args.host) else args.host),
            access_log=args.access_log,
            allow_hosts=args.allow_host,
        )
    except WorkerDied as error:
        print(f"bertnli serve: {error}", file=sys.stderr)
        return DIED
    return 0


def _say(open_host: str | None, line: str) -> None:
    if open_host is not None:
        print(
            f"warning: --host {open_host} answers other machines, without a login and without TLS; "
            "put a proxy before the server (docs/serve.md), or leave --host out",
            file=sys.stderr,
        )
    print(line, flush=True)


def _load(args: argparse.Namespace, name: str) -> Any:
    """Return the classifier on a backend; called in the thread that will own it."""
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
