"""Which names a server answers to: a page of another site must not reach it through a browser.

A browser says in `Host` which name its user's page asked for, and in `Origin` which page asks. A
name of another site that leads to this machine (DNS rebinding) is seen in the one, a page of
another site that sends here in the other. Starlette's TrustedHostMiddleware looks at `Host` alone,
and its older versions cannot read IPv6 addresses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from bertnli.data.corpus import shown
from bertnli.errors import ConfigError
from bertnli.serve.reading import Refused

LOCAL = ("localhost", "127.0.0.1", "::1")
ANY = "*"


class Hosts:
    """The names that a server answers to: its own, and those that its user allows.

    Args:
        bound: the name or address that the server listens on.
        allowed: more names, from whose pages requests may come, too; `ANY` for all.

    Raises:
        ConfigError: one of these is no name of a host.
    """

    def __init__(self, bound: str = LOCAL[0], allowed: Iterable[str] = ()) -> None:
        self.allowed = frozenset(map(_allowed_name, allowed))
        self.own = frozenset({*LOCAL, bound.lower()}) | self.allowed

    def check(self, headers: Mapping[str, str], address: str | None) -> None:
        """Refuse a request of another site.

        Args:
            headers: of the request.
            address: of this machine, that the request came to; in `Host` it is an own name, too.

        Raises:
            Refused: its `Host` (400) or its `Origin` (403) is a foreign one.
        """
        if ANY in self.allowed:
            return
        host, origin = headers.get("host"), headers.get("origin")
        here = (address or "").lower().removeprefix("::ffff:")  # IPv4, on a socket of IPv6
        if host is not None and _name_of(host) not in self.own | {here}:
            raise _foreign(400, "Host", host)
        if origin is not None and not self._is_own(origin, host):
            raise _foreign(403, "Origin", origin)

    def _is_own(self, origin: str, host: str | None) -> bool:
        """Return whether an origin is that of our own page, or one of an allowed name."""
        try:
            where = urlsplit(origin.lower())
        except ValueError:
            return False
        own = host is not None and where.netloc == host.lower()
        return bool(where.netloc) and (own or where.hostname in self.allowed)


def _name_of(text: str) -> str | None:
    """Return the name in ``name``, ``name:80`` or ``[::1]:80``; None where there is none."""
    match = re.fullmatch(r"(?:\[([\da-f:.]+)\]|([^\s\[\]:/@?#,]+))(?::\d*)?", text.strip().lower())
    return (match[1] or match[2]).removesuffix(".") if match else None


def _allowed_name(text: str) -> str:
    is_ipv6 = re.fullmatch(r"[\da-fA-F.]*:[\da-fA-F:.]*:[\da-fA-F:.]*", text)
    name = text.lower() if is_ipv6 else _name_of(text)
    if name is None:
        raise ConfigError(
            f"--allow-host is {text!r}; give a name such as nli.example.org, without http://, or "
            f"{ANY} for every name"
        )
    return name


def _foreign(status: int, header: str, found: str) -> Refused:
    text = shown.repr(found).encode("ascii", "backslashreplace").decode()
    return Refused(
        status,
        f"{header} is {text}, which is none of this server's names; ask for the address that the "
        "server printed, or start it with --allow-host NAME",
    )
