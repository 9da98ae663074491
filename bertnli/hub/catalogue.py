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

#: The environment variable with the path of the cache folder.
CACHE_VARIABLE = "BERTNLI_CACHE"
#: Models that come with bertnli, and the two folders that each has in the package.
BUNDLED = ("bert.mini",)
PRETRAINED, CLASSIFIER = "pretrained", "classifier"
#: The key in `DATA_HUB` of a file for all frameworks.
ANY = "any"

#: The book's server.
DATA_URL = "http://d2l-data.s3-accelerate.amazonaws.com/"


class HubFile(NamedTuple):
    """The URL of a file and its SHA-1, or None if the SHA-1 is not known."""

    url: str
    sha1: str | None


#: The hub: a name, the book's or one that `register` added, to its files by framework; the key
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
    """Add a file to `DATA_HUB`, under a new name or as another framework's file of a name.

    Args:
        name: the name for `download`.
        url: the file's address.
        sha1: the file's SHA-1, 40 hexadecimal digits, which is checked after the download and
            before every use; None to check nothing.
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
    """A mapping of each name to (URL, SHA-1): the files in `DATA_HUB` for one framework.

    It is used like the ``DATA_HUB`` of the book's package.
    """

    def __init__(self, framework: str) -> None:
        self.framework = framework

    def __getitem__(self, name: str) -> HubFile:
        return DATA_HUB[name].get(self.framework) or DATA_HUB[name][ANY]

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
    """Return the names in `DATA_HUB` that stand for data, not for models."""
    return sorted(name for name, files in DATA_HUB.items() if ANY in files)


def is_model_name(name: str | Path) -> bool:
    """Return whether a name stands for a pretrained model in `DATA_HUB`."""
    return str(name) in DATA_HUB and ANY not in DATA_HUB[str(name)]


def missing_hint(name: str | Path, known: Iterable[str]) -> str:
    """Return the hint for a name that does not exist: the most similar known name, or advice."""
    owner = str(name).rpartition("/")[0]
    if owner:  # such as microsoft/deberta-base, unless there is a folder microsoft
        match = re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", str(name))
    else:  # such as bert-base-uncased or roberta-base
        match = re.match(r"bert-.*-|\w+bert\w*-|bert\w+-", str(name).lower())
    if match and not (owner and Path(owner).exists()):
        return (
            f"{near_path(name)}. Models of Hugging Face's hub are not downloaded; of one, give the "
            "folder of a downloaded copy"
        )
    return did_you_mean(str(name), known) or near_path(name)


def bundled(name: str | Path, kind: str) -> Path | None:
    """Return the folder of a model that comes with bertnli; None if the name is not one.

    Args:
        name: the name; a file or folder of that name in the working directory takes precedence.
        kind: ``"pretrained"`` or ``"classifier"``.
    """
    if str(name) not in BUNDLED or Path(name).exists():
        return None
    return Path(str(resources.files("bertnli") / "models" / str(name) / kind))


def cache_dir() -> Path:
    """Return the folder for downloads: ``$BERTNLI_CACHE``, or ``bertnli`` in the user's cache."""
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
    """Download a file unless it has been downloaded before, and return its path.

    The file of each URL is in a folder named by the URL's hash, since different files may have the
    same name.

    Args:
        name: a name in `DATA_HUB`, or a URL.
        folder: the folder for downloads; None for the cache folder.
        sha1: the SHA-1 that a URL's file must have; the hub has those of its own files.
        framework: ``"torch"`` or ``"mxnet"``, needed if the hub has a file for each.
        progress: whether to show a progress bar.

    Raises:
        DownloadError: the name is unknown, the file cannot be downloaded, or its hash is wrong.

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
    """Look up a name in `DATA_HUB`, and return the file for a framework."""
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
    """Return the path for a URL's file, in a subfolder named by the hash of the URL."""
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
    """Download and unpack an archive, unless that was done before, and return its folder.

    Args:
        name: a name in `DATA_HUB`, a URL, the path of a zip or tar archive, or that of a folder,
            which is returned unchanged.
        folder, framework, progress: see `download`.

    Raises:
        DownloadError: see `download`; or the archive is damaged or unreasonably large.

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
