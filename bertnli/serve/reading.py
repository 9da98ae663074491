"""A request's body -> what is asked, or the reason why it is refused.

Not left to the web framework: so a body is never kept beyond its limit and has a deadline, and what
is wrong with it is said in words.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bertnli._util.files import unique_keys
from bertnli.data.corpus import shown
from bertnli.serve.limits import HURRY, Limits

#: Bytes of a body that is too long which are read and thrown away. A client that is still sending
#: would not see the answer: closing a connection with unread bytes resets it.
DRAINED = 8 << 20
#: Of a client that left before its answer, as nginx counts it; nobody is sent it.
LEFT = 499
CLOSE = {"connection": "close"}
#: After how many seconds to try a server that cannot answer.
AGAIN = {"retry-after": "5"}


class Refused(Exception):
    """A request that gets no answer of the model.

    Args:
        status: HTTP's.
        message: what was found, what was expected, what to do.
        headers: more of the answer's.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})


@dataclass
class _Body:
    """Buffer for a request body; dropped once over the limit."""

    limit: int
    parts: list[bytes] = field(default_factory=list)
    size: int = 0

    @property
    def too_long(self) -> bool:
        return self.size > self.limit

    def add(self, part: bytes) -> None:
        self.size += len(part)
        if self.too_long:
            self.parts.clear()
        else:
            self.parts.append(part)


async def read_body(
    receive: Callable[[], Awaitable[Any]],
    headers: Mapping[str, str],
    limits: Limits,
    is_crowded: Callable[[], bool],
) -> bytes:
    """Return a request's body, of which never more than the limit is kept.

    Args:
        receive: ASGI's.
        headers: of the request.
        limits: ``max_body`` and ``read_timeout`` are looked at.
        is_crowded: whether others want this one's place; it then has `HURRY` seconds at most.

    Raises:
        Refused: it is compressed (415), too long (413) or too slow (408), or the client left.
    """
    coding = headers.get("content-encoding", "").strip()
    if coding.lower() not in ("", "identity"):
        raise Refused(
            415,
            f"the body has the Content-Encoding {shown.repr(coding)}; send it uncompressed, "
            "without this header",
            {"accept-encoding": "identity"},
        )
    too_long = Refused(
        413,
        f"the body is longer than {limits.max_body:,} bytes; send fewer pairs in a request, or "
        "start the server with a larger --max-body",
        CLOSE,
    )
    declared = headers.get("content-length", "")
    body = _Body(limits.max_body)
    if declared.isdecimal() and int(declared) > limits.max_body:
        if headers.get("expect", "").lower() == "100-continue":
            raise too_long  # the client waits for leave to send
        body.limit = -1
    reading = _read(receive, body)
    given_up = await _read_in_time(reading, limits.read_timeout, is_crowded)
    if body.too_long:
        raise too_long
    if given_up is not None:
        raise given_up
    return b"".join(body.parts)


async def _read_in_time(
    read: Coroutine[Any, Any, None], seconds: float, is_crowded: Callable[[], bool]
) -> Refused | None:
    """Read a body; return why it was given up, if it was."""
    start = time.monotonic()
    reading = asyncio.ensure_future(read)
    try:
        while True:
            crowded = is_crowded()
            patience = min(HURRY, seconds) if crowded else seconds
            left = start + patience - time.monotonic()
            done, _ = await asyncio.wait((reading,), timeout=max(0, min(left, HURRY)))
            if done:
                reading.result()
                return None
            if left <= 0:
                break
    finally:
        reading.cancel()
    late = f"the body did not arrive within {patience:g} seconds"
    if crowded:
        return Refused(503, f"{late}, and others wait for its place", {**AGAIN, **CLOSE})
    return Refused(408, f"{late}; send it at once", CLOSE)


async def _read(receive: Callable[[], Awaitable[Any]], body: _Body) -> None:
    while body.size <= body.limit + DRAINED:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(LEFT, "the client left")
        body.add(message.get("body", b""))
        if not message.get("more_body", False):
            return


@dataclass(frozen=True)
class Asked:
    """What a request asks: a backend's name, or None for any, and pairs of sentences."""

    backend: str | None
    pairs: list[tuple[str, str]]


def read_predict(body: bytes, limits: Limits, backends: Sequence[str]) -> Asked:
    """Return what a request for predictions asks.

    Args:
        body: JSON, an object with premise and hypothesis, or with a list of pairs of them.
        limits: ``max_pairs`` and ``max_chars`` are looked at.
        backends: the names that there are.

    Raises:
        Refused: it is no JSON (400), or not what is expected (422).
    """
    asked = _object(body)
    if "pairs" not in asked:
        return _read_one(asked, limits, backends)
    _check_keys(asked, ("pairs", "backend"), "the request")
    pairs = asked["pairs"]
    if not isinstance(pairs, list):
        raise _wrong("pairs", "a list of objects with premise and hypothesis", pairs)
    if not 1 <= len(pairs) <= limits.max_pairs:
        raise Refused(
            422,
            f"there are {len(pairs):,} pairs, and a request may have 1 to {limits.max_pairs:,}; "
            "send them in several requests, or start the server with a larger --max-pairs",
        )
    return Asked(
        _backend(asked, backends),
        [_pair(pair, limits, f"pairs[{i}]") for i, pair in enumerate(pairs)],
    )


def read_explain(body: bytes, limits: Limits, backends: Sequence[str]) -> Asked:
    """Return what a request for an explanation asks, of one pair; see `read_predict`."""
    return _read_one(_object(body), limits, backends)


def _read_one(asked: dict[str, Any], limits: Limits, backends: Sequence[str]) -> Asked:
    backend = _backend(asked, backends)
    alone = {key: value for key, value in asked.items() if key != "backend"}
    return Asked(backend, [_pair(alone, limits, "the request")])


def _object(body: bytes) -> dict[str, Any]:
    example = '{"premise": "A man is asleep.", "hypothesis": "A man is awake."}'
    try:
        found = json.loads(body, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is no JSON ({error}); send {example}") from None
    if not isinstance(found, dict):
        raise _wrong("the body", f"an object such as {example}", found)
    return found


def _pair(pair: Any, limits: Limits, where: str) -> tuple[str, str]:
    if not isinstance(pair, dict):
        raise _wrong(where, "an object with premise and hypothesis", pair)
    names = ("premise", "hypothesis")
    _check_keys(pair, names, where)
    for name in names:
        if name not in pair:
            raise Refused(422, f"{where} has no {name}; give it as a string")
        _check_sentence(pair[name], limits, name if where == "the request" else f"{where}.{name}")
    return pair["premise"], pair["hypothesis"]


def _check_sentence(sentence: Any, limits: Limits, where: str) -> None:
    if not isinstance(sentence, str):
        raise _wrong(where, "a string", sentence)
    if not sentence.strip():
        raise Refused(422, f"{where} is empty; give a sentence")
    if len(sentence) > limits.max_chars:
        raise Refused(
            422,
            f"{where} has {len(sentence):,} characters, and a sentence may have "
            f"{limits.max_chars:,}; shorten it, or start the server with a larger --max-chars",
        )
    try:
        sentence.encode()
    except UnicodeEncodeError:
        raise Refused(
            422, f"{where} has half of a surrogate pair, which is no character; send UTF-8"
        ) from None


def _backend(asked: dict[str, Any], backends: Sequence[str]) -> str | None:
    name = asked.get("backend")
    if name is None or (isinstance(name, str) and name in backends):
        return name
    raise _wrong("backend", f"one of {list(backends)}, or leave it out", name)


def _check_keys(found: dict[str, Any], known: Sequence[str], where: str) -> None:
    for key in found:
        if key not in known:
            raise Refused(
                422, f"{where} has {shown.repr(key)}, which means nothing; it has {list(known)}"
            )


def _wrong(where: str, expected: str, found: Any) -> Refused:
    # ASCII escapes lone surrogates, which are not valid UTF-8.
    text = ascii(found) if isinstance(found, (str, int, float)) else shown.repr(found)
    text = text.encode("ascii", "backslashreplace").decode()
    return Refused(422, f"{where} is {text[:80]}; give {expected}")
