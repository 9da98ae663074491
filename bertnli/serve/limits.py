"""What a server takes from its clients at most."""

from __future__ import annotations

from dataclasses import dataclass

from bertnli.errors import ConfigError

#: Seconds that a client has to send a request, and that a request waits for a place, where there
#: are too many.
HURRY = 1.0


@dataclass(frozen=True)
class Limits:
    """What a server takes from its clients at most.

    Args:
        max_batch: pairs computed at a time.
        max_wait: seconds that a batch which is not full waits for more pairs. At 0 it does not
            wait; the next one gathers while it is computed.
        max_queue: pairs that wait for a backend; an explanation counts as a full batch.
        max_pairs: pairs of a request.
        max_body: bytes of a request's body.
        max_chars: characters of a sentence.
        max_connections: connections with a request under way. Where there are so many, a further
            one is refused after `HURRY` seconds, and a body has no longer than that.
        read_timeout: seconds that a client has for a request's headers, again for its body, and
            again to take the answer.
        timeout: seconds from a request's last byte to its answer.
        batching: whether the pairs of several requests are computed together.

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
        whole = ("max_batch", "max_queue", "max_pairs", "max_body", "max_chars", "max_connections")
        for name in whole:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; give at least 1")
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
