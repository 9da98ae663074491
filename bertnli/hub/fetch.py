"""One URL -> one verified file, whatever the server does.

What has come is kept in a hidden part file beside the target, and the next attempt, of this call or
of a later one, asks for the rest of it. The target appears when it is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bertnli._util.locks import hidden, locked
from bertnli._util.progress import LogLines
from bertnli.errors import DownloadError
from bertnli.hub.exchange import Answer, Exchange, Failure

#: Consecutive attempts without progress before a download is given up.
ATTEMPTS = 4
#: Seconds before the second attempt, doubled before each further one, up to the second number.
BACKOFF, MAX_BACKOFF = 0.5, 30.0
#: Of a server's own wish (Retry-After) so many seconds are granted.
MAX_RETRY_AFTER = 60.0
#: Seconds for a whole download with all its attempts.
DEADLINE = 4 * 3600.0
#: A file may have so many bytes.
MAX_BYTES = 1 << 36
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz")
_PAGE = (
    "a web page came in place of the file: perhaps the log-in page of a network, or an error page "
    "of a proxy; open the address in a browser"
)


class _OfNoUse(Failure):
    """What is in the part file does not belong to the file; the next attempt begins anew."""


def sha1_of(path: str | Path) -> str:
    """Return the SHA-1 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return str(_digest(file).hexdigest())


def _digest(file: Any) -> Any:
    digest = hashlib.sha1()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest


def is_here(target: Path, sha1: str | None) -> bool:
    """Return whether a file is there, and the expected one as far as that is known."""
    return target.is_file() and (sha1 is None or sha1_of(target) == sha1)


def fetch(url: str, sha1: str | None, target: Path, progress: bool) -> None:
    """Fetch a file that is not here yet.

    Two processes at once fetch it once: the second waits, and finds it here. Where the SHA-1 is
    not known, an unfinished download is joined to its rest only if the server says that both are of
    one version (a strong ETag, or a Last-Modified of some time ago): a wrong file is worse than a
    second download.

    Args:
        url: http or https.
        sha1: 40 hexadecimal digits in lower case; None if they are not known.
        target: where to put it. A file that is there stays until another has come whole.
        progress: show a bar, or where standard error is a log a line every 30 seconds.

    Raises:
        DownloadError: the server cannot be reached, has no such file, gives another one, or gives
            nothing for too long.
        OSError: the folder cannot be written.
    """
    with locked(target):
        if is_here(target, sha1):
            return
        bar = tqdm(desc=target.name, unit="B", unit_scale=True, disable=None if progress else True)
        with bar:
            _Download(url, sha1, target, bar, progress and bool(bar.disable)).run()


@dataclass
class _Record:
    """What a part file is of: a file, perhaps a version of it, and the length of the whole."""

    file: str
    validator: str | None = None
    length: int | None = None


class _Download:
    """A download under way."""

    def __init__(self, url: str, sha1: str | None, target: Path, bar: Any, in_log: bool) -> None:
        self.url, self.sha1, self.target = url, sha1, target
        self.bar, self.in_log = bar, in_log
        self.part, self.record_path = hidden(target, ".part"), hidden(target, ".part.json")
        self.deadline = time.monotonic() + DEADLINE
        # A hash says all about a file; its address may differ, as signed ones do.
        self.file = sha1 or hashlib.sha256(url.encode(errors="replace")).hexdigest()
        self._forget()

    def run(self) -> None:
        """Make attempts until the target is there.

        Raises:
            DownloadError, OSError: see `fetch`.
        """
        failures, most = 0, 0
        while True:
            try:
                return self._attempt()
            except Failure as found:
                failure = found
                if isinstance(found, _OfNoUse):
                    self._drop()
            except OSError:
                self._drop()  # it may be what fills the disk
                raise
            failures = 1 if self.size > most else failures + 1
            most = max(most, self.size)
            wait = min(MAX_BACKOFF, BACKOFF * 2 ** (failures - 1)) * random.uniform(0.5, 1.5)
            wait = max(wait, min(failure.retry_after, MAX_RETRY_AFTER))
            late = time.monotonic() + wait > self.deadline
            if late or failures >= ATTEMPTS or not failure.again:
                if self.size == 0 or self._stored() is None:
                    self._drop()
                raise DownloadError(self._help(failure)) from failure
            time.sleep(wait)

    def _attempt(self) -> None:
        self._take_up()
        is_whole = self.size > 0 and self.digest.hexdigest() == self.sha1
        joined = not is_whole and self._receive()
        found = self.digest.hexdigest()
        if self.sha1 not in (None, found):
            with open(self.part, "rb") as file:
                page = _is_page(file.read(512))
            if joined:
                raise _OfNoUse("what came before and the rest are not of one file", True)
            self._drop()
            raise DownloadError(
                f"{self.url}: the SHA-1 of what came is {found}, expected is {self.sha1}. It is "
                "not the registered file and was thrown away" + (f"; {_PAGE}" if page else "")
            )
        os.replace(self.part, self.target)
        self.record_path.unlink(missing_ok=True)

    def _take_up(self) -> None:
        """Begin with what is in the part file, if it can be gone on with."""
        self._forget()
        stored = self._stored()
        if stored is None:
            self._drop()
            return
        self.record = stored
        with suppress(FileNotFoundError), open(self.part, "rb") as file:
            self.digest = _digest(file)
            self.size = file.tell()

    def _stored(self) -> _Record | None:
        """Return the record of a part that can be gone on with."""
        try:
            found = _Record(**json.loads(self.record_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        usable = (
            found.file == self.file
            and isinstance(found.validator, str | None)
            and isinstance(found.length, int | None)
            and (self.sha1 or found.validator)
        )
        return found if usable else None

    def _forget(self) -> None:
        self.record, self.digest, self.size = _Record(self.file), hashlib.sha1(), 0

    def _drop(self) -> None:
        with suppress(OSError):
            self.part.unlink(missing_ok=True)
            self.record_path.unlink(missing_ok=True)

    def _receive(self) -> bool:
        """Ask for what is missing, and write it; return whether it joined an earlier part."""
        headers = {"Accept-Encoding": "identity"}
        if self.size:
            headers["Range"] = f"bytes={self.size}-"
            if self.record.validator:
                headers["If-Range"] = self.record.validator
        with Exchange(self.url, headers, self.deadline) as exchange:
            answer = exchange.answer()
            if answer.downgraded and self.sha1 is None:
                raise Failure(
                    "https was asked for, and a redirect leads to http, where anybody may change "
                    "the file; give its SHA-1 to take it all the same",
                    False,
                )
            if answer.status == 206:
                end: int | None = self._check_range(answer)
                chunk = exchange.chunk()
            elif answer.status == 200:
                chunk = exchange.chunk()
                end = self._begin(answer, chunk)
            else:
                raise _OfNoUse(f"the server has nothing after the {self.size:,} bytes here", True)
            self.bar.total, self.bar.n = self.record.length, self.size
            megabytes = None if self.record.length is None else self.record.length / 1e6
            lines = LogLines(self.target.name, "MB", megabytes, done=self.size / 1e6)
            with open(self.part, "ab") as output:
                while chunk:
                    if end is not None and self.size + len(chunk) > end:
                        raise _OfNoUse(f"more bytes come than the {end:,} of the file", True)
                    if self.size + len(chunk) > MAX_BYTES:
                        raise _OfNoUse(f"the file has more than {MAX_BYTES:,} bytes", False)
                    output.write(chunk)
                    self.digest.update(chunk)
                    self.size += len(chunk)
                    self.bar.update(len(chunk))
                    if self.in_log:
                        lines.update(self.size / 1e6)
                    chunk = exchange.chunk()
                output.flush()
                os.fsync(output.fileno())
        if self.record.length not in (None, self.size):
            raise Failure(f"{self.size} of {self.record.length} bytes came, then the end", True)
        return answer.status == 206

    def _check_range(self, answer: Answer) -> int:
        """Return where the bytes that come end; refuse those that do not follow what is here."""
        found = answer.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", found)
        first, last, length = map(int, match.groups()) if match else (-1, -1, -1)
        validators = {self.record.validator, answer.validator} - {None}
        if (
            not (self.size and first == self.size <= last < length)
            or self.record.length not in (None, length)
            or len(validators) > 1
            or answer.encoded
        ):
            raise _OfNoUse(
                f"the server gives {found!r} of a file, and what follows {self.size:,} of "
                f"{self.record.length} bytes was asked for",
                True,
            )
        self.record.length = length
        return last + 1

    def _begin(self, answer: Answer, chunk: bytes) -> int | None:
        """Begin a part file of what the answer says; return its length, where that is known."""
        if self.target.suffix.lower() in ARCHIVES and _is_page(chunk, answer):
            raise Failure(_PAGE, False)  # before what is here of the archive is given up
        if (answer.length or 0) > MAX_BYTES:
            raise Failure(f"the file has more than {MAX_BYTES:,} bytes: {answer.length:,}", False)
        self._drop()
        self._forget()
        # A body that was compressed for its way has another length, and no part of it can be asked
        # for by the place in the file.
        if not answer.encoded:
            self.record = _Record(self.file, answer.validator, answer.length)
            self.record_path.write_text(json.dumps(asdict(self.record)), encoding="utf-8")
        return self.record.length

    def _help(self, reason: Failure) -> str:
        return (
            f"{self.url} could not be fetched: {reason}\n"
            f"Without a network: put the file by hand at {self.target}\n"
            "or give the path of a local folder or zip in place of the name;\n"
            "or work with what needs no download: `bertnli train --train sample` trains a small "
            "BERT from scratch on the corpus that comes with bertnli"
        )


def _is_page(begin: bytes, answer: Answer | None = None) -> bool:
    """Return whether a body that begins so is a web page."""
    text = begin.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    says_so = answer is not None and answer.headers.get("Content-Type", "").startswith("text/html")
    return text.startswith((b"<!doctype html", b"<html")) or (says_so and text.startswith(b"<"))
