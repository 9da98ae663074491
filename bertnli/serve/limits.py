"""The limits of a server."""

from __future__ import annotations

from dataclasses import dataclass

from bertnli.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """The limits of a server.

    Args:
        max_batch: pairs in a batch.
        max_wait: seconds that a batch which is not full waits for more pairs.
        max_queue: pairs that wait for a backend; an explanation counts as a full batch.
        max_pairs: pairs in a request.
        max_body: bytes of a request's body.
        max_chars: characters of a sentence.
        max_connections: open connections.
        read_timeout: seconds to send a request's body, and that an idle connection stays open.
        timeout: seconds from the end of a request to its answer.
        batching: whether the pairs of several requests are computed in one batch.

    Raises:
        ConfigError: a number that is too small, or two that contradict one another.
    """

    max_batch: int = 64
    max_wait: float = 0.0
    max_queue: int = 1024
    max_pairs: int = 256
    max_body: int = 262_144
    max_chars: int = 2_000
    max_connections: int = 1024
    read_timeout: float = 10.0
    timeout: float = 30.0
    batching: bool = True

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
