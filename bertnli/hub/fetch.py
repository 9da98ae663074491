"""Download a URL to a verified file.

The content is written to a hidden part file beside the target, which is renamed when it is
complete. If the SHA-1 is known, the next attempt, of this call or of a later one, resumes the part.
"""

from __future__ import annotations

import os
import random
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from bertnli._util.files import digest_of
from bertnli._util.locks import hidden, locked
from bertnli._util.progress import LogLines
from bertnli.errors import DownloadError

#: Limits: seconds for a download with all its attempts, bytes of a file.
DEADLINE, MAX_BYTES = 4 * 3600.0, 1 << 36
#: Consecutive attempts without progress before a download is given up.
ATTEMPTS = 4
#: Seconds before the second attempt, doubled before each further one.
BACKOFF = 1.0
#: Timeouts in seconds: for a connection, and for each next piece of the response.
TIMEOUT = (10.0, 60.0)
#: Retries of failed connections, and of HTTP statuses that may be temporary.
RETRY = Retry(
    ATTEMPTS - 1,
    status_forcelist=(408, 425, 429, 500, 502, 503, 504),
    raise_on_status=False,
    backoff_factor=BACKOFF / 2,
    backoff_max=30,
    backoff_jitter=0.5,
    retry_after_max=60,
)
MAX_REDIRECTS = 10
#: Bytes that are read and written at a time.
CHUNK = 1 << 14
#: Suffixes of files in whose place a web page is a mistake.
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz")


class _Interrupted(Exception):
    """Raised if a response ends early, so that another attempt may complete the file."""


def is_here(target: Path, sha1: str | None) -> bool:
    """Return whether a file exists and, unless ``sha1`` is None, has this SHA-1."""
    return target.is_file() and (sha1 is None or digest_of(target, "sha1") == sha1)


def fetch(url: str, sha1: str | None, target: Path, progress: bool) -> None:
    """Download a file, unless it exists; one of several processes downloads it, the others wait.

    Args:
        url: an http or https address.
        sha1: 40 hexadecimal digits in lower case; None if they are not known.
        target: path of the file. An existing one stays until the new one is complete.
        progress: whether to show a bar or, if standard error is a log, a line every 30 seconds.
    """
    with locked(target):
        if is_here(target, sha1):
            return
        bar = tqdm(desc=target.name, unit="B", unit_scale=True, disable=None if progress else True)
        download = _Download(url, sha1, target, bar, progress and bool(bar.disable))
        try:
            with bar:
                download.run()
            os.replace(download.part, target)
        except (requests.RequestException, HTTPError, ValueError) as error:
            raise DownloadError(
                f"{url} could not be fetched: {error}\n"
                f"Without a network: put the file by hand at {target}\n"
                "or give the path of a local folder or zip in place of the name;\n"
                "or work with what needs no download: `bertnli train --train sample` trains a "
                "small BERT from scratch on the corpus that comes with bertnli"
            ) from None  # the original error may quote a password
        except OSError:
            download.part.unlink(missing_ok=True)  # the part may be what fills the disk
            raise
        finally:
            if not (sha1 and download.size()):
                download.part.unlink(missing_ok=True)


class _Download:
    """A download in progress; see `fetch`. ``in_log``: whether to print lines instead of a bar."""

    def __init__(self, url: str, sha1: str | None, target: Path, bar: Any, in_log: bool) -> None:
        self.url, self.sha1, self.target = url, sha1, target
        self.bar, self.in_log = bar, in_log
        self.part = hidden(target, ".part")
        self.deadline = time.monotonic() + DEADLINE

    def size(self) -> int:
        """Return the number of bytes in the part file."""
        return self.part.stat().st_size if self.part.exists() else 0

    def run(self) -> None:
        """Make attempts until the part file is complete and verified."""
        failures, largest = 0, 0
        while True:
            try:
                return self._attempt()
            except _Interrupted as interruption:
                failures = failures + 1 if self.size() <= largest else 1
                largest = max(largest, self.size())
                if failures == ATTEMPTS:
                    raise requests.RequestException(str(interruption)) from None
            time.sleep(BACKOFF * 2 ** (failures - 1) * random.uniform(0.5, 1.5))

    def _attempt(self) -> None:
        """Request the file or the rest of it, and verify it; `_Interrupted` if it is incomplete."""
        # Without a hash nothing shows whether the part and the rest are of the same version.
        size = self.size() if self.sha1 else 0
        headers = {"Accept-Encoding": "identity"}
        if size:
            headers["Range"] = f"bytes={size}-"
        with _get(self.url, headers, self.deadline) as response:
            status = response.status_code
            span = response.headers.get("Content-Range", "")
            resumed = size > 0 and status == 206 and span.startswith(f"bytes {size}-")
            if size and not resumed and status in (206, 416):
                self.part.unlink(missing_ok=True)
                raise _Interrupted(f"the server does not continue the file after {size:,} bytes")
            if status != 200 and not resumed:
                raise requests.HTTPError(f"the server answers {status} {response.reason}")
            is_page = response.headers.get("Content-Type", "").startswith("text/html")
            if is_page and self.target.suffix.lower() in ARCHIVES:
                raise requests.RequestException(
                    "a web page came in place of the file: perhaps the log-in page of a network, "
                    "or an error page of a proxy; open the address in a browser"
                )
            self._receive(response, size if resumed else 0)
        digest = digest_of(self.part, "sha1")
        if self.sha1 not in (None, digest):
            self.part.unlink(missing_ok=True)
            if resumed:
                raise _Interrupted("the part and the rest are not of one file")
            raise DownloadError(
                f"{self.url}: the SHA-1 of what came is {digest}, expected is {self.sha1}. It is "
                "not the registered file and was thrown away"
            )

    def _receive(self, response: requests.Response, size: int) -> None:
        """Write a response's body to the part file, after its first ``size`` bytes."""
        rest = response.raw.length_remaining
        self.bar.total, self.bar.n = None if rest is None else size + rest, size
        megabytes = None if rest is None else (size + rest) / 1e6
        lines = LogLines(self.target.name, "MB", megabytes, done=size / 1e6)
        # The timeout of requests does not end a read if the body arrives byte by byte.
        timer = threading.Timer(self.deadline - time.monotonic(), response.raw.shutdown)
        timer.daemon = True
        timer.start()
        try:
            with open(self.part, "ab" if size else "wb") as output:
                for chunk in response.iter_content(CHUNK):
                    size += len(chunk)
                    if size > MAX_BYTES:
                        raise ValueError(f"the file has more than {MAX_BYTES:,} bytes")
                    output.write(chunk)
                    self.bar.update(len(chunk))
                    if self.in_log:
                        lines.update(size / 1e6)
                output.flush()
                os.fsync(output.fileno())
        except requests.RequestException as error:
            raise _Interrupted(str(error)) from None
        finally:
            timer.cancel()
        if time.monotonic() > self.deadline:
            raise requests.Timeout("the download took too long")


def _get(url: str, headers: dict[str, str], deadline: float) -> requests.Response:
    """Request a URL, follow redirects, and return the response, with its body still unread."""
    result: Future[requests.Response] = Future()

    def run() -> None:
        try:
            result.set_result(_follow(url, headers))
        except Exception as error:
            result.set_exception(error)

    # No timeout of requests covers a lookup of a name, or headers that arrive byte by byte.
    threading.Thread(target=run, daemon=True).start()
    try:
        return result.result(max(0.0, deadline - time.monotonic()))
    except FutureTimeoutError:
        raise requests.Timeout("the download took too long") from None


def _follow(url: str, headers: dict[str, str]) -> requests.Response:
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=RETRY))
    for _ in range(MAX_REDIRECTS + 1):
        # With allow_redirects, requests would read the bodies of redirects, of any length.
        response = session.get(
            url, headers=headers, stream=True, timeout=TIMEOUT, allow_redirects=False
        )
        location = session.get_redirect_target(response)
        if location is None:
            return response
        response.close()
        url = urljoin(url, location)
    raise requests.TooManyRedirects(f"more than {MAX_REDIRECTS} redirects, the last to {url}")
