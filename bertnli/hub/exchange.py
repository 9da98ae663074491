"""HTTP GET with a total deadline.

A server can stall at any place: while names are looked up, between two bytes of a header or of the
body. A thread does all of that waiting, and the caller waits for the thread.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from queue import Empty, Full, Queue
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests

from bertnli.errors import without_secrets

#: Seconds to wait for a connection, and for each next piece of the answer.
TIMEOUT = (10, 60)
#: In so many seconds at least so many bytes must come.
WINDOW, WINDOW_BYTES = 60.0, 1 << 16
MAX_REDIRECTS = 10
#: Read size in bytes; maximum number of queued chunks.
CHUNK, PIECES = 1 << 14, 64
#: Other statuses, below 500, after which another attempt may succeed.
PASSING = (408, 425, 429)


class Failure(Exception):
    """An attempt that brought no file.

    Args:
        reason: what happened.
        again: whether another attempt may do better.
        retry_after: seconds that the server wants to be left alone.
    """

    def __init__(self, reason: str, again: bool, retry_after: float = 0.0) -> None:
        super().__init__(without_secrets(reason))
        self.again, self.retry_after = again, retry_after


@dataclass(frozen=True)
class Answer:
    """The head of an answer.

    Args:
        status: 200 or 206 or 416; any other is a `Failure`.
        headers: without regard to case.
        downgraded: https was asked for, and a redirect led to http.
    """

    status: int
    headers: Any
    downgraded: bool

    @property
    def encoded(self) -> bool:
        """Whether the body was compressed for its way; the length is then another."""
        return self.headers.get("Content-Encoding", "identity").lower() != "identity"

    @property
    def length(self) -> int | None:
        """Bytes of the body, where they are known."""
        text = self.headers.get("Content-Length", "")
        plain = text.isascii() and text.isdigit() and len(text) < 19
        return int(text) if plain and "Transfer-Encoding" not in self.headers else None

    @property
    def validator(self) -> str | None:
        """What tells this version of the file from all others, or None."""
        etag = self.headers.get("ETag", "")
        if etag.startswith('"'):
            return str(etag)
        modified, now = self.headers.get("Last-Modified"), _date(self.headers.get("Date"))
        changed = _date(modified)
        # Two versions may have the same second, unless it was over when the answer was given.
        old = changed is not None and now is not None and (now - changed).total_seconds() >= 60
        return str(modified) if old else None


def _date(text: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(text or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


class _Stopped(Exception):
    """Nobody waits for the answer any more."""


class Exchange:
    """A request under way; a context, which at its end leaves the connection.

    Args:
        url: http or https.
        headers: of the request.
        deadline: a time of `time.monotonic` after which nothing is waited for.
    """

    def __init__(self, url: str, headers: dict[str, str], deadline: float) -> None:
        self._deadline = deadline
        self._mark, self._since_mark = time.monotonic(), 0
        self._items: Queue[Answer | bytes | Failure] = Queue(PIECES)
        self._stopped = threading.Event()
        self._socket: socket.socket | None = None
        threading.Thread(target=self._run, args=(url, headers), daemon=True).start()

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread, if it reads

    def answer(self) -> Answer:
        """Return the head of the answer; call it once, before `chunk`.

        Raises:
            Failure: there is none, or it is of no use.
        """
        answer = self._next()
        assert isinstance(answer, Answer)
        return answer

    def chunk(self) -> bytes:
        """Return the next bytes of the body, none at its end.

        Raises:
            Failure: the connection broke, or too little came for too long.
        """
        chunk = self._next()
        assert isinstance(chunk, bytes)
        self._since_mark += len(chunk)
        if self._since_mark >= WINDOW_BYTES:
            self._mark, self._since_mark = time.monotonic(), 0
        return chunk

    def _next(self) -> Answer | bytes:
        now = time.monotonic()
        if now > self._deadline:
            raise Failure("the time for this download is over", False)
        try:
            limit = min(self._mark + WINDOW, self._deadline)
            item = self._items.get(timeout=max(0.0, limit - now))
        except Empty:
            raise Failure(
                f"the server stalled: in {time.monotonic() - self._mark:.0f} seconds "
                f"{self._since_mark:,} bytes came",
                True,
            ) from None
        if isinstance(item, Failure):
            raise item
        return item

    def _put(self, item: Answer | bytes | Failure) -> None:
        while not self._stopped.is_set():
            with suppress(Full):
                return self._items.put(item, timeout=0.1)
        raise _Stopped

    def _run(self, url: str, headers: dict[str, str]) -> None:
        with suppress(_Stopped):
            try:
                self._exchange(url, headers)
            except _Stopped:
                raise
            except Failure as failure:
                self._put(failure)
            except Exception as error:
                # Retrying a malformed URL or header cannot help.
                self._put(Failure(str(error), not isinstance(error, ValueError)))

    def _exchange(self, url: str, headers: dict[str, str]) -> None:
        with requests.Session() as session:
            response, downgraded = _open(session, url, headers)
            with response:
                _check_status(response)
                with suppress(OSError, ValueError):  # nothing is left to read
                    self._socket = socket.socket(fileno=os.dup(response.raw.fileno()))
                try:
                    self._put(Answer(response.status_code, response.headers, downgraded))
                    if response.status_code != 416:
                        for chunk in response.iter_content(CHUNK):
                            self._put(chunk)
                    self._put(b"")
                finally:
                    if self._socket is not None:
                        self._socket.close()


def _open(
    session: requests.Session, url: str, headers: dict[str, str]
) -> tuple[requests.Response, bool]:
    """Return the answer at the end of all redirects, whose bodies are not read."""
    schemes = []
    for _ in range(MAX_REDIRECTS + 1):
        schemes.append(urlsplit(url).scheme.lower())
        if schemes[-1] not in ("http", "https"):
            raise Failure(f"{url} is neither http nor https, and not followed", False)
        response = session.get(
            url, headers=headers, stream=True, timeout=TIMEOUT, allow_redirects=False
        )
        where = session.get_redirect_target(response)
        if where is None:
            return response, schemes[0] == "https" and "http" in schemes
        response.close()
        url = urljoin(url, where)
    raise Failure(f"the server redirects more than {MAX_REDIRECTS} times, now to {url}", False)


def _check_status(response: requests.Response) -> None:
    status = response.status_code
    if status in (200, 206, 416):
        return
    wish = response.headers.get("Retry-After", "")
    if wish.isascii() and wish.isdigit() and len(wish) < 9:
        seconds = float(wish)
    else:
        date = _date(wish)
        seconds = (date - datetime.now(timezone.utc)).total_seconds() if date else 0.0
    raise Failure(
        f"the server answers {status} {response.reason}",
        status >= 500 or status in PASSING,
        seconds,
    )
