"""The command that serves predictions over HTTP."""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from bertnli._util.options import flag, group, option
from bertnli.api.loading import backend_of, loaded
from bertnli.backends import NAMES
from bertnli.cli import options
from bertnli.cli.parser import Command, arguments
from bertnli.serve.limits import Limits

BOTH, LOCAL = "both", ("localhost", "127.0.0.1", "::1")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; give 0 to 65535")
    return int(text)


def _host_names(text: str) -> list[str]:
    if not re.fullmatch(r"\*|(\*\.)?[\w.:-]+", text):
        what = f"{text!r} is no host; give a name such as nli.example.org"
        raise argparse.ArgumentTypeError(what)
    return [text]


Hosts = Annotated[list[str], ("type", _host_names), ("metavar", "NAME")]


@dataclass(frozen=True)
class ServeWhere(options.Where):
    """The options of `Where` for a server, which uses one device, and one backend or both."""

    backend: str | None = option(
        f"the framework, or both (default: the first of {', '.join(NAMES)} that is installed)",
        choices=(*NAMES, BOTH),
    )
    devices: options.Names | None = option("cpu or gpu:1 (default: a GPU, or else the CPU)")


@dataclass(frozen=True, kw_only=True)
class Serve(Command):
    """Answer requests over HTTP, and show a page to try a model on.

    POST /predict takes {"premise": ..., "hypothesis": ...} or {"pairs": [...]}; concurrent requests
    are computed together. /openapi.json describes all paths. After SIGTERM, queued requests are
    answered and the exit status is 0; if a model's thread dies, it is 1.

    examples:
      bertnli serve
      bertnli serve --checkpoint runs/small --backend both --port 8080
      curl --json '{"premise": "A man is asleep.", "hypothesis": "A man is awake."}' \\
          http://127.0.0.1:8000/predict
    """

    checkpoint: options.AnyPath = options.checkpoint_option()
    host: str = option("address to listen on", default=LOCAL[1])
    port: int = option("port, or 0 for a free one", default=8000, type=_port, metavar="PORT")
    allow_host: Hosts = option(
        "answer requests for this host name, too, or * for all; repeat it for several", default=()
    )
    access_log: bool = flag("print a line for each request")
    unnamed: options.Unnamed = group(options.Unnamed)
    cut: options.Cut = group(options.Cut)
    limits: Limits = group(Limits, "batches, and limits of a client")
    where: ServeWhere = group(ServeWhere, "where to compute")

    def run(self) -> int:
        from bertnli.serve.run import WorkerDied, serve  # needs the extra `serve`

        backend = self.where.backend
        names = NAMES if backend == BOTH else (backend_of(backend).name,)
        if self.host not in LOCAL:
            risk = f"--host {self.host} answers other machines, without a login and without TLS"
            advice = "put a proxy before the server (docs/serve.md), or leave --host out"
            print(f"warning: {risk}; {advice}", file=sys.stderr)
        try:
            serve(
                {name: partial(self.load, name) for name in names},
                self.limits,
                Path(self.checkpoint).resolve().name,  # clients see no folders of the server
                host=self.host,
                port=self.port,
                on_ready=partial(print, flush=True),
                access_log=self.access_log,
                allow_hosts=self.allow_host,
            )
        except WorkerDied as error:
            print(f"bertnli serve: {error}", file=sys.stderr)
            return 1
        return 0

    def load(self, name: str) -> Any:
        """Load the classifier on a backend; called in the thread that uses it."""
        how = {**arguments(self.where), **arguments(self.unnamed), "backend": name}
        net = loaded(self.checkpoint, **how)
        max_len, truncation = self.cut.max_len, self.cut.truncation
        net.encoding = net.encoding.overridden(max_len, truncation, net.config.max_len)
        return net
