"""Named downloads: a name becomes a verified local file or folder."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bertnli._util.files import expanded
from bertnli._util.hints import did_you_mean, near_path
from bertnli.errors import DownloadError, without_secrets
from bertnli.hub.archives import extracted
from bertnli.hub.fetch import fetch, is_here

#: The environment variable that moves the cache folder.
CACHE_VARIABLE = "BERTNLI_CACHE"
#: What comes with bertnli, in folders of the package: pretrained models, and classifiers.
BUNDLED = ("bert.mini",)
PRETRAINED, CLASSIFIER = "pretrained", "classifier"
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
        return without_secrets(f"HubView({self.framework!r}: {dict(self)})")


def hub_view(framework: str) -> HubView:
    """Return one framework's view of the hub."""
    return HubView(framework)


def corpus_names() -> list[str]:
    """Return the names of the hub that mean data, which every framework reads."""
    return sorted(name for name, entry in DATA_HUB.items() if ANY in entry.files)


def model_names(framework: str) -> list[str]:
    """Return the names of the hub that mean a checkpoint of a framework."""
    return sorted(name for name, entry in DATA_HUB.items() if framework in entry.files)


def is_model_name(name: str | Path) -> bool:
    """Return whether a name of the hub means a pretrained model."""
    entry = DATA_HUB.get(str(name))
    return entry is not None and ANY not in entry.files


def missing_hint(name: str | Path, known: Iterable[str]) -> str:
    """Return for the end of a message what may have been meant by what is not here, or nothing.

    Args:
        name: neither a path nor a name that is known.
        known: names that are.
    """
    if _of_hugging_face(str(name)):
        return (
            f"{near_path(name)}. Models of Hugging Face's hub are not downloaded; of one, give the "
            "folder of a downloaded copy"
        )
    return did_you_mean(str(name), known) or near_path(name)


def _of_hugging_face(name: str) -> bool:
    """Return whether a name is like microsoft/deberta-base, bert-base-uncased or roberta-base."""
    owner, _, model = name.rpartition("/")
    if owner:  # and no folder of that name
        return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) is not None and not Path(owner).exists()
    words = model.lower().split("-")
    return len(words) > 1 and "bert" in words[0] and (len(words) > 2 or words[0] != "bert")


def bundled(name: str | Path, kind: str) -> Path | None:
    """Return the folder of a model that comes with bertnli; None if there is none of the name.

    Args:
        name: of the model; a file or folder of that name in the working directory goes before.
        kind: ``"pretrained"`` or ``"classifier"``.
    """
    if str(name) not in BUNDLED or Path(name).exists():
        return None
    return Path(str(resources.files("bertnli") / "models" / str(name) / kind))


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

    Each URL's file has a folder of its own, named by the URL's hash: two URLs that end alike are
    two files.

    Args:
        name: a name of the hub, or a URL.
        folder: where to keep that folder; None for the cache folder.
        sha1: the hash a URL's file must have; names of the hub bring their own.
        framework: whose file of a checkpoint to take.
        progress: show a bar.

    Raises:
        DownloadError: the name is unknown, the file cannot be fetched, or it is not the one
            expected.
    """
    file = _file_of(name, sha1, framework)
    target = _kept_at(Path(folder or cache_dir()).expanduser(), file.url)
    # A file with another hash stays until a good one replaces it.
    try:
        if not is_here(target, file.sha1):  # what is here needs no lock, and no right to write
            fetch(file.url, file.sha1, target, progress)
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
        known = [*(model_names(framework) if framework else DATA_HUB), *BUNDLED]
        hint = missing_hint(name, known)
        end = "" if hint.endswith("?") else "."
        raise DownloadError(
            f"{name!r} is neither a name that bertnli downloads nor a local folder or archive"
            f"{hint}{end} Known names: {', '.join(sorted({*known}))}"
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


def _kept_at(folder: Path, url: str) -> Path:
    """Return where a URL's file is kept: its key is the whole URL, user and query included."""
    key = hashlib.sha256(url.encode(errors="surrogatepass")).hexdigest()[:16]
    return folder / key / _file_name(url)


def _file_name(url: str) -> str:
    try:
        name = unquote(urlsplit(url).path).rsplit("/", 1)[-1]
    except ValueError:
        raise DownloadError(f"{url} is not a URL") from None  # the reason would quote a password
    if not name or name in (".", "..") or "\\" in name or "\0" in name:
        raise DownloadError(f"the URL {url} does not end in a file's name")
    return name


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
    if path.exists():
        archive = path
    else:
        archive = Path(download(str(name), folder, framework=framework, progress=progress))
    return str(extracted(archive, Path(folder or cache_dir()).expanduser()))
