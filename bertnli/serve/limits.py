"""The limits of the server."""

from __future__ import annotations

from dataclasses import dataclass

from bertnli._util.options import at_least, documented, option
from bertnli.errors import ConfigError


def _seconds(text: str) -> float:
    return int(text) / 1000


@documented
@dataclass(frozen=True)
class Limits:
    """Limits of the server; each field is also an option of `bertnli serve`.

    Raises:
        ConfigError: two limits contradict each other, or a time is not above 0.
    """

    max_batch: int = option("pairs computed at a time", default=64, type=at_least(1))
    max_wait: float = option(
        "milliseconds (in Python seconds) that a batch which is not full waits for more pairs "
        "(default: 0; the next batch gathers while one is computed)",
        default=0.0,
        type=_seconds,
        metavar="MS",
    )
    max_queue: int = option("pairs that wait for a backend", default=1024, type=at_least(1))
    batching: bool = option(
        "compute each request by itself, to compare", "--no-batching", default=True
    )
    max_pairs: int = option("pairs of a request", default=256, type=at_least(1))
    max_chars: int = option("characters of a sentence", default=2_000, type=at_least(1))
    max_body: int = option(
        "size of a request's body", default=262_144, type=at_least(1), metavar="BYTES"
    )
    max_connections: int = option("open connections", default=1024, type=at_least(1))
    read_timeout: float = option(
        "seconds to send a request's body, and that an idle connection stays open",
        default=10.0,
        metavar="S",
    )
    timeout: float = option("seconds that an answer may take", default=30.0, metavar="S")

    def __post_init__(self) -> None:
        for name in ("read_timeout", "timeout"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} is {getattr(self, name)}; give seconds above 0")
        if not 0 <= self.max_wait < self.timeout:
            raise ConfigError(
                f"max_wait is {self.max_wait:g} seconds; give 0 or more, and less than the "
                f"timeout of {self.timeout:g}"
            )
        if self.max_pairs > self.max_queue:
            raise ConfigError(
                f"a request may have {self.max_pairs} pairs, and the queue has room for "
                f"{self.max_queue}; give a longer queue, or fewer pairs to a request"
            )
