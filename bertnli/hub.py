"""Named downloads: a name becomes a verified local file or folder."""

from __future__ import annotations

import difflib
import hashlib
import lzma
import os
import re
import shutil
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests
from tqdm.auto import tqdm

from bertnli.errors import DownloadError
from bertnli.files import expanded

#: The environment variable that moves the cache folder.
CACHE_VARIABLE = "BERTNLI_CACHE"
#: Seconds to wait for a connection, and for each next piece of the answer.
TIMEOUT = (10, 60)
#: An archive may unpack to so many bytes, and so many times its own size more.
MAX_UNPACKED, MAX_RATIO = 1 << 28, 20
#: Key of a file that every framework reads.
ANY = "any"

_D2L = "http://d2l-data.s3-accelerate.amazonaws.com/"


@dataclass(frozen=True)
class HubFile:
    """Where a file is, and the SHA-1 it must have; None if that is not known."""

    url: str
    sha1: str | None


@dataclass
class HubEntry:
    """What a name of the hub means.

    Args:
        name: the name.
        files: framework to file; the key ``"any"`` for data that every framework reads.
    """

    name: str
    files: dict[str, HubFile] = field(default_factory=dict)


def _entry(name: str, **files: tuple[str, str]) -> HubEntry:
    return HubEntry(name, {key: HubFile(url, sha1) for key, (url, sha1) in files.items()})


#: Every entry, by name: the book's, and those that `register` adds.
DATA_HUB: dict[str, HubEntry] = {
    entry.name: entry
    for entry in (
        _entry(
            "bert.base",
            torch=(_D2L + "bert.base.torch.zip", "225d66f04cae318b841a13d32af3acc165f253ac"),
            mxnet=(_D2L + "bert.base.zip", "7b3820b35da691042e5d34c0971ac3edbd80d3f4"),
        ),
        _entry(
            "bert.small",
            torch=(_D2L + "bert.small.torch.zip", "c72329e68a732bef0452e4b96a1c341c8910f81f"),
            mxnet=(_D2L + "bert.small.zip", "a4e718a47137ccd1809c9107ab4f5edd317bae2c"),
        ),
        _entry(
            "SNLI",
            any=(
                "https://nlp.stanford.edu/projects/snli/snli_1.0.zip",
                "9fcde07509c7e87ec61c640c1b2753d9041758e4",
            ),
        ),
    )
}


def register(name: str, url: str, sha1: str | None = None, framework: str = ANY) -> None:
    """Give a download a name, or one more framework's file to a name.

    Args:
        name: what to ask for.
        url: where the file is.
        sha1: hexadecimal SHA-1 that is checked after the download and before every use; None not to
            check.
        framework: ``"torch"`` or ``"mxnet"`` for a checkpoint of that framework.

    Raises:
        DownloadError: the hash is not 40 hexadecimal digits.
    """
    if sha1 is not None and not re.fullmatch("[0-9a-fA-F]{40}", sha1):
        raise DownloadError(f"the SHA-1 of {name} is {sha1!r}; 40 hexadecimal digits are expected")
    entry = DATA_HUB.setdefault(name, HubEntry(name))
    entry.files[framework] = HubFile(url, sha1.lower() if sha1 else None)


class HubView(MutableMapping[str, tuple[str, str | None]]):
    """One framework's view of the hub, as the book writes it: name to (URL, SHA-1).

    It shows what is in the hub now; ``view[name] = (url, sha1)`` registers a file for the
    framework.
    """

    def __init__(self, framework: str) -> None:
        self.framework = framework

    def _files(self) -> Mapping[str, HubFile]:
        files = {
            name: entry.files.get(self.framework, entry.files.get(ANY))
            for name, entry in DATA_HUB.items()
        }
        return {name: file for name, file in files.items() if file is not None}

    def __getitem__(self, name: str) -> tuple[str, str | None]:
        file = self._files()[name]
        return file.url, file.sha1

    def __setitem__(self, name: str, value: tuple[str, str | None]) -> None:
        register(name, *value, framework=self.framework)

    def __delitem__(self, name: str) -> None:
        self[name]  # a KeyError if this framework has no such file
        files = DATA_HUB[name].files
        del files[self.framework if self.framework in files else ANY]
        if not files:
            del DATA_HUB[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files())

    def __len__(self) -> int:
        return len(self._files())

    def __repr__(self) -> str:
        return f"HubView({self.framework!r}: {dict(self)})"


def hub_view(framework: str) -> HubView:
    """Return one framework's view of the hub."""
    return HubView(framework)


def cache_dir() -> Path:
    """Return the folder of downloads: ``$BERTNLI_CACHE``, else ``bertnli`` in the user's cache."""
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "bertnli"


def download(
    name: str,
    folder: str | Path | None = None,
    sha1: str | None = None,
    *,
    framework: str | None = None,
    progress: bool = True,
) -> str:
    """Return the path of a named file, fetching it if it is not here yet.

    Args:
        name: a name of the hub, or a URL.
        folder: where to keep the file; None for the cache folder.
        sha1: the hash a URL's file must have; names of the hub bring their own.
        framework: whose file of a checkpoint to take.
        progress: show a bar.

    Raises:
        DownloadError: the name is unknown, the file cannot be fetched, or it is not the one
            expected.
    """
    file = _file_of(name, sha1, framework)
    target = Path(folder or cache_dir()).expanduser() / _file_name(file.url)
    if target.is_file() and (file.sha1 is None or sha1_of(target) == file.sha1):
        return str(target)
    # A file with another hash stays until a good one replaces it.
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(file, target, progress)
    except requests.RequestException as error:
        raise DownloadError(_offline_help(file, target, error)) from error
    except OSError as error:
        if isinstance(error, DownloadError):
            raise
        raise DownloadError(
            f"{target} cannot be written: {error}. Choose another folder, or move the cache with "
            f"the environment variable {CACHE_VARIABLE}"
        ) from error
    return str(target)


def _file_of(name: str, sha1: str | None, framework: str | None) -> HubFile:
    if "://" in name:
        return HubFile(name, sha1.lower() if sha1 else None)
    entry = DATA_HUB.get(name)
    if entry is None:
        near = difflib.get_close_matches(name, DATA_HUB, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise DownloadError(
            f"{name!r} is neither a name of the hub nor a local folder or archive.{hint} Known "
            f"names: {', '.join(sorted(DATA_HUB))}"
        )
    file = entry.files.get(framework or ANY, entry.files.get(ANY))
    if file is None and framework is None and len(entry.files) == 1:
        file = next(iter(entry.files.values()))
    if file is None:
        asked = f"and none for {framework}" if framework else "so say which"
        raise DownloadError(
            f"{name} has one file for each of {sorted(entry.files)}, {asked}: framework='torch', "
            "say, or get_backend(...).load_pretrained_model, which knows"
        )
    return file


def _file_name(url: str) -> str:
    name = unquote(urlsplit(url).path).rsplit("/", 1)[-1]
    if not name or name in (".", "..") or "\\" in name or "\0" in name:
        raise DownloadError(f"the URL {url} does not end in a file's name")
    return name


def _fetch(file: HubFile, target: Path, progress: bool) -> None:
    """Fetch to a temporary name, check, and rename: never half a file under the final name."""
    with requests.get(file.url, stream=True, timeout=TIMEOUT) as response:
        response.raise_for_status()
        header = response.headers.get("Content-Length", "")
        # The length is that of what is transferred, which is not the file's if it is compressed.
        encoded = "Content-Encoding" in response.headers
        expected = int(header) if header.isdigit() and not encoded else None
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            digest, size = hashlib.sha1(), 0
            bar = tqdm(
                total=expected,
                desc=target.name,
                unit="B",
                unit_scale=True,
                disable=None if progress else True,
            )
            with os.fdopen(handle, "wb") as output, bar:
                for chunk in response.iter_content(1 << 20):
                    output.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
                    bar.update(len(chunk))
                output.flush()
                os.fsync(output.fileno())
            if expected is not None and size != expected:
                raise DownloadError(
                    f"{file.url}: {size} of {expected} bytes came, then the end. Try again"
                )
            if file.sha1 is not None and digest.hexdigest() != file.sha1:
                raise DownloadError(
                    f"{file.url}: the SHA-1 of what came is {digest.hexdigest()}, expected is "
                    f"{file.sha1}. It is not the registered file and was thrown away"
                )
            os.replace(temporary, target)
        finally:
            Path(temporary).unlink(missing_ok=True)


def _offline_help(file: HubFile, target: Path, error: Exception) -> str:
    return (
        f"{file.url} could not be fetched: {error}\n"
        f"Without a network: put the file by hand at {target}\n"
        "or give the path of a local folder or zip in place of the name;\n"
        "or work with what needs no download: `bertnli train --data sample` trains a small BERT "
        "from scratch on the corpus that comes with bertnli"
    )


def sha1_of(path: str | Path) -> str:
    """Return the SHA-1 of a file, in hexadecimal."""
    digest = hashlib.sha1()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def download_extract(
    name: str | Path,
    folder: str | Path | None = None,
    *,
    framework: str | None = None,
    progress: bool = True,
) -> str:
    """Return the folder of a named archive's content, fetching and unpacking it once.

    Args:
        name: a name of the hub, a URL, or the path of a local folder (returned as it is) or archive
            (zip or tar).
        folder: where downloads are kept; None for the cache folder.
        framework: whose file of a checkpoint to take.
        progress: show a bar.

    Raises:
        DownloadError: as `download`; or the archive is damaged, or has members that would be
            written outside its folder.
    """
    path = expanded(name, DownloadError)
    if path.is_dir():
        return str(path)
    if path.is_file():
        archive = path
    else:
        archive = Path(download(str(name), folder, framework=framework, progress=progress))
    return str(_extracted(archive, Path(folder or cache_dir()).expanduser()))


def _extracted(archive: Path, folder: Path) -> Path:
    """Unpack once, into a folder named by the archive's hash; return the content's folder."""
    stem = re.sub(r"(\.tar)?\.\w+$", "", archive.name)
    home = folder / "extracted" / f"{stem}-{sha1_of(archive)[:12]}"
    if not home.is_dir():
        try:
            home.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(dir=home.parent, prefix=f".{stem}."))
        except OSError as error:
            raise DownloadError(f"{home} cannot be written: {error}") from error
        try:
            _unpack(archive, temporary)
            try:
                temporary.rename(home)
            except OSError:
                if not home.is_dir():  # unless another process was faster
                    raise
        except DownloadError:
            raise
        except (
            *(OSError, EOFError, RuntimeError, ValueError, LookupError, struct.error),
            *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError),
        ) as error:
            raise DownloadError(f"{archive} cannot be unpacked: {error}") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    content = [entry for entry in home.iterdir() if entry.name != "__MACOSX"]
    return content[0] if len(content) == 1 and content[0].is_dir() else home


def _unpack(archive: Path, folder: Path) -> None:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                is_link = (info.external_attr >> 16) & 0o170000 == 0o120000
                _check_member(archive, info.filename, is_link)
            _check_size(archive, sum(info.file_size for info in zipped.infolist()))
            zipped.extractall(folder)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            total = 0
            for member in tar:
                _check_member(archive, member.name, not (member.isfile() or member.isdir()))
                total += member.size
                _check_size(archive, total)
            tar.extractall(folder)
    else:
        raise DownloadError(
            f"{archive} is neither a zip nor a tar archive; a table of pairs is named with "
            "--train, --dev or --file, or read with read_pairs"
        )


def _check_size(archive: Path, size: int) -> None:
    """Refuse what unpacks to far more than a corpus or a model does."""
    if size > MAX_UNPACKED + MAX_RATIO * archive.stat().st_size:
        raise DownloadError(
            f"{archive} is refused: its {archive.stat().st_size:,} bytes unpack to {size:,}"
        )


def _check_member(archive: Path, name: str, is_special: bool) -> None:
    parts = re.split(r"[/\\]", name)
    if is_special or ".." in parts or parts[0] == "" or re.match("[A-Za-z]:", name):
        raise DownloadError(
            f"{archive} is refused: its member {name!r} is a link, or would be written outside the "
            "folder it is unpacked in"
        )
