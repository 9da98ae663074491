"""Check that every link within a built site leads somewhere: to a file, and an anchor in it.

    python docs/check_links.py docs/_build/html

Links to other sites are Sphinx's to check, `make linkcheck`; they need a network.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: The attributes that hold an address, by element.
ADDRESSES = {"a": "href", "link": "href", "img": "src", "script": "src", "source": "src"}


class Page(HTMLParser):
    """What a page links to, with the line of each link, and what may be linked to in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[tuple[str, int]] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element's address and name."""
        result = dict(attrs)
        for name in ("id", "name"):
            if result.get(name):
                self.anchors.add(str(result[name]))
        address = result.get(ADDRESSES.get(tag, ""))
        if address is not None:
            self.links.append((address, self.getpos()[0]))


def broken_links(site: Path) -> list[str]:
    """Return a line for each link within a site that leads nowhere.

    Args:
        site: its folder.
    """
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    result = []
    for path, page in pages.items():
        for address, line in page.links:
            wrong = _wrong(address, path, pages)
            if wrong:
                result.append(f"{path.relative_to(site)}:{line}: {address}: {wrong}")
    return result


def _wrong(address: str, path: Path, pages: dict[Path, Page]) -> str:
    """Return what is wrong with a link of a page; nothing if it is another site's, or right."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return ""
    target = path
    if parts.path:
        target = (path.parent / unquote(parts.path)).resolve()
        if target.is_dir():
            target /= "index.html"
        if not target.is_file():
            return "no such file"
    if parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
        return "no such anchor"
    return ""


def main(arguments: list[str]) -> int:
    """Print what is broken; the status is 1 if anything is, 2 if there is no site."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: check_links.py FOLDER, where the site was built", file=sys.stderr)
        return 2
    broken = broken_links(Path(arguments[0]).resolve())
    print("\n".join(broken) if broken else "every link within the site leads somewhere")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
