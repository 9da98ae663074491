"""A name -> a verified local file or folder."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, MutableMapping
from importlib import resources
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from bertnli._util.files import expanded
from bertnli._util.hints import did_you_mean, near_path
from bertnli.errors import DownloadError, without_secrets
from bertnli.hub.archives import extracted
from bertnli.hub.fetch import fetch, is_here

#: The environment variable that moves the cache folder.
CACHE_VARIABLE = "BERTNLI_CACHE"
#: Models that come with bertnli, each in two folders of the package.
BUNDLED = ("bert.mini",)
PRETRAINED, CLASSIFIER = "pretrained", "classifier"
#: Key of a file that every framework reads.
ANY = "any"

#: The book's server.
DATA_URL = "http://d2l-data.s3-accelerate.amazonaws.com/"


class HubFile(NamedTuple):
    """The URL of a file, and the SHA-1 it must have; None if that is not known."""

    url: str
    sha1: str | None


#: Every name, the book's and those that `register` adds, to its files by framework; the key
#: ``"any"`` is for data that every framework reads.
DATA_HUB: dict[str, dict[str, HubFile]] = {
    "bert.base": {
        "torch": HubFile(
            DATA_URL + "bert.base.torch.zip", "225d66f04cae318b841a13d32af3acc165f253ac"
        ),
        "mxnet": HubFile(DATA_URL + "bert.base.zip", "7b3820b35da691042e5d34c0971ac3edbd80d3f4"),
    },
    "bert.small": {
        "torch": HubFile(
            DATA_URL + "bert.small.torch.zip", "c72329e68a732bef0452e4b96a1c341c8910f81f"
        ),
        "mxnet": HubFile(DATA_URL + "bert.small.zip", "a4e718a47137ccd1809c9107ab4f5edd317bae2c"),
    },
    "SNLI": {
        ANY: HubFile(
            "https://nlp.stanford.edu/projects/snli/snli_1.0.zip",
            "9fcde07509c7e87ec61c640c1b2753d9041758e4",
        )
    },
}


def register(name: str, url: str, sha1: str | None = None, framework: str = ANY) -> None:
    """Give a download a name, or add a framework's file to a name.

    Args:
        name: the name for `download`.
        url: where the file is.
        sha1: hexadecimal SHA-1 that is checked after the download and before every use; None not to
            check.
        framework: ``"torch"`` or ``"mxnet"`` for a checkpoint of that framework.

    Raises:
        DownloadError: the hash is not 40 hexadecimal digits.

    Examples:
        >>> bertnli.register("my.sets", "https://example.org/sets.zip", "0" * 40)
        >>> bertnli.DATA_HUB["my.sets"]["any"].url
        'https://example.org/sets.zip'
    """
    if sha1 is not None and not re.fullmatch("[0-9a-fA-F]{40}", sha1):
        raise DownloadError(f"the SHA-1 of {name} is {sha1!r}; 40 hexadecimal digits are expected")
    DATA_HUB.setdefault(name, {})[framework] = HubFile(url, sha1.lower() if sha1 else None)


class HubView(MutableMapping[str, tuple[str, str | None]]):
    """One framework's view of the hub, as the book writes it: name to (URL, SHA-1).

    ``view[name] = (url, sha1)`` registers a file for the framework.
    """

    def __init__(self, framework: str) -> None:
        self.framework = framework

    def __getitem__(self, name: str) -> HubFile:
        files = DATA_HUB[name]
        return files[self.framework if self.framework in files else ANY]

    def __setitem__(self, name: str, value: tuple[str, str | None]) -> None:
        register(name, *value, framework=self.framework)

    def __delitem__(self, name: str) -> None:
        files = DATA_HUB[name]
        del files[self.framework if self.framework in files else ANY]
        if not files:
            del DATA_HUB[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name, files in DATA_HUB.items() if {self.framework, ANY} & {*files})

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return without_secrets(f"HubView({self.framework!r}: {dict(self)})")


def corpus_names() -> list[str]:
    """Return the names of the hub that mean data, which every framework reads."""
    return sorted(name for name, files in DATA_HUB.items() if ANY in files)


def is_model_name(name: str | Path) -> bool:
    """Return whether a name of the hub means a pretrained model."""
    return str(name) in DATA_HUB and ANY not in DATA_HUB[str(name)]


def missing_hint(name: str | Path, known: Iterable[str]) -> str:
    """Return a hint for the end of a message about a name that is neither a path nor known."""
    if _is_of_hugging_face(str(name)):
        return (
            f"{near_path(name)}. Models of Hugging Face's hub are not downloaded; of one, give the "
            "folder of a downloaded copy"
        )
    return did_you_mean(str(name), known) or near_path(name)


def _is_of_hugging_face(name: str) -> bool:
    """Return whether a name is like microsoft/deberta-base, bert-base-uncased or roberta-base."""
    owner, _, model = name.rpartition("/")
    if owner:  # and no folder of that name
        return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) is not None and not Path(owner).exists()
    return re.match(r"bert-.*-|\w+bert\w*-|bert\w+-", model.lower()) is not None


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
    """Return the path of a named file, downloading it if it is not here yet.

    The file of each URL has a folder named by the URL's hash: URLs that end alike are different
    files.

    Args:
        name: a name of the hub, or a URL.
        folder: where to keep that folder; None for the cache folder.
        sha1: the hash a URL's file must have; names of the hub bring their own.
        framework: whose file of a checkpoint to take.
        progress: show a bar.

    Raises:
        DownloadError: the name is unknown, the file cannot be fetched, or it is not the one
            expected.

    Examples:
        >>> bertnli.download("SNL")
        Traceback (most recent call last):
            ...
        bertnli.errors.DownloadError: 'SNL' is neither ... Did you mean 'SNLI'? ...
    """
    file = (
        HubFile(name, sha1.lower() if sha1 else None) if "://" in name else _named(name, framework)
    )
    target = _target(Path(folder or cache_dir()).expanduser(), file.url)
    try:
        if not is_here(target, file.sha1):  # a file that is here needs no lock, no right to write
            fetch(file.url, file.sha1, target, progress)
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(
            f"{target} cannot be written: {error}. Choose another folder, or move the cache with "
            f"the environment variable {CACHE_VARIABLE}"
        ) from error
    return str(target)


def _named(name: str, framework: str | None) -> HubFile:
    """Return a framework's file of a name."""
    files = DATA_HUB.get(name)
    if files is None:
        matching = [key for key, files in DATA_HUB.items() if framework in (None, *files)]
        known = {*BUNDLED, *matching}
        hint = missing_hint(name, known)
        raise DownloadError(
            f"{name!r} is neither a name that bertnli downloads nor a local folder or archive"
            f"{hint}{'' if hint.endswith('?') else '.'} Known names: {', '.join(sorted(known))}"
        )
    file = files.get(framework or ANY, files.get(ANY))
    if file is None and framework is None and len(files) == 1:
        (file,) = files.values()
    if file is None:
        missing = f"and none for {framework}" if framework else "so say which"
        raise DownloadError(
            f"{name} has one file for each of {sorted(files)}, {missing}: framework='torch', "
            "say, or get_backend(...).load_pretrained_model, which knows"
        )
    return file


def _target(folder: Path, url: str) -> Path:
    """Return where a URL's file is kept: in a folder named by the hash of the URL."""
    key = hashlib.sha256(url.encode(errors="surrogatepass")).hexdigest()[:16]
    try:
        name = unquote(urlsplit(url).path).rsplit("/", 1)[-1]
    except ValueError:
        raise DownloadError(f"{url} is not a URL") from None  # the reason would quote a password
    if name in ("", ".", "..") or "\\" in name or "\0" in name:
        raise DownloadError(f"the URL {url} does not end in a file's name")
    return folder / key / name


def download_extract(
    name: str | Path,
    folder: str | Path | None = None,
    *,
    framework: str | None = None,
    progress: bool = True,
) -> str:
    """Return the folder of a named archive's content, downloading and unpacking it once.

    Args:
        name: a name of the hub, a URL, or the path of a local folder (returned as it is) or archive
            (zip or tar).
        folder: where downloads are kept; None for the cache folder.
        framework: whose file of a checkpoint to take.
        progress: show a bar.

    Raises:
        DownloadError: as `download`; or the archive is damaged, or too large for a corpus or a
            model.

    Examples:
        >>> import zipfile
        >>> from pathlib import Path
        >>> with zipfile.ZipFile("pairs.zip", "w") as archive:
        ...     archive.writestr("pairs/dev.tsv", "sentence1\\tsentence2\\tgold_label\\n")
        >>> Path(bertnli.download_extract("pairs.zip"), "dev.tsv").exists()
        True
    """
    path = expanded(name, DownloadError)
    if path.is_dir():
        return str(path)
    if not path.exists():
        path = Path(download(str(name), folder, framework=framework, progress=progress))
    return str(extracted(path, Path(folder or cache_dir()).expanduser()))
