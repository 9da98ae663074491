"""Crowds before `bertnli serve`: many clients at once, and one that holds slow requests.

Each good request must be answered with 200 or 503, and /metrics must count each answer: of a server
with its defaults, of one with fewer places, and of one that may open few files.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Sequence
from typing import Any

from served import Connection, Server, request

#: Clients that come at once; slow bodies that one client holds, and good requests beside them.
CROWDS, SLOW, GOOD = (600, 1000), 300, 40
#: More options of a server, and the number of its open files.
SERVERS: dict[str, tuple[tuple[str, ...], int | None]] = {
    "defaults": ((), None),
    "100 places": (("--max-connections", "100"), None),
    "256 files": ((), 256),
}
#: Seconds that a client waits at most.
PATIENCE = 120


async def crowd(args: argparse.Namespace, pairs: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Send crowds to each of the servers, and compare what clients saw with what was counted."""
    bodies = [json.dumps(pair).encode() for pair in pairs]
    found: dict[str, Any] = {}
    print("| server | crowd | answers | counted by the server |")
    print("|---|---|---|---|")
    for name, (options, files) in SERVERS.items():
        server = Server(args, *options, files=files)
        for size in CROWDS:
            what = f"{size:,} at once"
            found[f"{name}, {what}"] = await _compared(server, _at_once(server, bodies, size))
            _print(name, what, found)
        what = f"{GOOD} beside {SLOW} slow bodies"
        found[f"{name}, {what}"] = await _compared(server, _beside_slow(server, bodies))
        _print(name, what, found)
        found[name] = {"right": server.stop() == 0}
    print("all as it should be" if all(one["right"] for one in found.values()) else "WRONG")
    return found


async def _compared(
    server: Server, clients: Awaitable[tuple[Counter[str], Counter[str]]]
) -> dict[str, Any]:
    before = await server.answered()
    good, slow = await clients
    counted = await server.answered() - before
    right = set(good) <= {"200", "503"} and good + slow == counted
    return {"good": good, "slow": slow, "counted": counted, "right": right}


def _print(name: str, what: str, found: dict[str, Any]) -> None:
    good, slow, counted = (
        _text(found[f"{name}, {what}"][key]) for key in ("good", "slow", "counted")
    )
    slow = f"; slow: {slow}" if slow else ""
    print(f"| {name} | {what} | {good}{slow} | {counted} |", flush=True)


def _text(statuses: Counter[str]) -> str:
    return ", ".join(f"{count:,} x {status}" for status, count in sorted(statuses.items()))


async def _at_once(
    server: Server, bodies: Sequence[bytes], size: int
) -> tuple[Counter[str], Counter[str]]:
    clients = [_status(server, body) for body in _repeated(bodies, size)]
    return Counter(await asyncio.gather(*clients)), Counter()


async def _beside_slow(
    server: Server, bodies: Sequence[bytes]
) -> tuple[Counter[str], Counter[str]]:
    slow = [asyncio.ensure_future(_slow(server)) for _ in range(SLOW)]
    await asyncio.sleep(0.5)
    good = await asyncio.gather(*(_status(server, body) for body in _repeated(bodies, GOOD)))
    return Counter(good), Counter(await asyncio.gather(*slow))


def _repeated(bodies: Sequence[bytes], size: int) -> list[bytes]:
    return [bodies[i % len(bodies)] for i in range(size)]


async def _status(server: Server, body: bytes) -> str:
    """Ask once; return the answer's status, or the error's name where there is none."""
    try:
        async with Connection(server.address) as connection:
            asked = connection.ask("POST", "/predict", body)
            return str((await asyncio.wait_for(asked, PATIENCE))[0])
    except (OSError, EOFError, asyncio.TimeoutError) as error:
        return type(error).__name__


async def _slow(server: Server) -> str:
    """Send a body byte by byte; return the answer's status, or the error's name."""
    try:
        async with Connection(server.address) as connection:
            connection.writer.write(request("POST", "/predict", 1000))
            answer = asyncio.ensure_future(connection.answer())
            while not answer.done():
                connection.writer.write(b"x")
                await asyncio.wait([answer], timeout=0.3)
            return str(answer.result()[0])
    except (OSError, EOFError) as error:
        return type(error).__name__
