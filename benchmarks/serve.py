"""Load `bertnli serve` over the loopback interface: how fast it is, and whether it lasts.

    python benchmarks/serve.py throughput --json result.json
    python benchmarks/serve.py soak --seconds 300 --json result.json

Throughput: clients that each send a pair, wait for the answer and send the next, to two servers
with the same code, one of which computes each request by itself. They take turns in rotation; the
first round does not count. What bounds a server shows in the share of the time that its model
computes, and in the processor time of its process.

Soak: for some minutes, clients of many kinds at a time, among them some that send what cannot be
answered, leave, or take their time. Every request that can be answered must be, alike each time,
with status 200; all others with 4xx; and the server's memory must not grow.

The load comes from one process beside the server's, and takes processor time of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
from served import Connection, Server, request

import bertnli

#: Kinds of clients of a soak, with how many of each there are at a time.
KINDS = {
    "one pair": 8,
    "many pairs": 2,
    "explain": 1,
    "page, health, metrics": 1,
    "no JSON": 1,
    "wrong fields": 1,
    "too long": 1,
    "leaves": 2,
    "slow body": 2,
}
GOOD = ("one pair", "many pairs", "explain", "page, health, metrics")
READ_TIMEOUT = 2
#: Answers to the same pair may differ by rounding, for batches differ.
ROUNDING = 1e-4
PATHS = ("/", "/health", "/metrics", "/model", "/openapi.json", "/style.css", "/page.js")


def main() -> None:
    """Run the part that was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("throughput", "soak"))
    parser.add_argument("--checkpoint", default="bert.mini")
    parser.add_argument("--backend", default="torch", choices=("torch", "mxnet"))
    parser.add_argument("--clients", type=int, default=32, help="of throughput")
    parser.add_argument("--rounds", type=int, default=5, help="of throughput, that count")
    parser.add_argument("--seconds", type=float, help="of a turn (4), or of the soak (300)")
    parser.add_argument("--json", help="write the result here")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parts = {"throughput": throughput, "soak": soak}
    result = asyncio.run(parts[args.part](args))
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")


def sentences() -> list[dict[str, str]]:
    """Return pairs to ask about, of the corpus that comes with bertnli."""
    corpus = bertnli.read("sample", "test")
    pairs = zip(corpus.premises, corpus.hypotheses, strict=True)
    return [{"premise": premise, "hypothesis": hypothesis} for premise, hypothesis in pairs]


async def throughput(args: argparse.Namespace) -> dict[str, Any]:
    """Time the same load with and without batches, in rotation."""
    bodies = [json.dumps(pair).encode() for pair in sentences()]
    servers = {"batches": Server(args), "one by one": Server(args, "--no-batching")}
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
    for turn in range(args.rounds + 1):
        for name, server in servers.items():
            result = await _turn(server, bodies, args.clients, args.seconds or 4)
            if turn:
                turns[name].append(result)
                print(f"{turn}: {name}, {result['per_second']:.0f} requests/s", file=sys.stderr)
    statuses = {name: server.stop() for name, server in servers.items()}
    ratios = [
        a["per_second"] / b["per_second"]
        for a, b in zip(turns["batches"], turns["one by one"], strict=True)
    ]
    columns = {
        "requests/s": "per_second",
        "p50, ms": "p50_ms",
        "p99, ms": "p99_ms",
        "pairs in a batch": "batch",
        "model busy, %": "model_share",
        "server's processor, cores": "cores",
        "processor, ms a request": "cpu_ms",
    }
    print(f"| {args.backend}, {args.clients} clients | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    for name, rows in turns.items():
        cells = []
        for key in columns.values():
            values = [row[key] for row in rows]
            cells.append(f"{statistics.median(values):.4g} ({min(values):.4g}-{max(values):.4g})")
        print(f"| {name} | {' | '.join(cells)} |")
    median = statistics.median(ratios)
    print(f"\nbatches / one by one: {median:.2f} ({min(ratios):.2f}-{max(ratios):.2f})")
    return {"settings": vars(args), "turns": turns, "ratios": ratios, "exit": statuses}


async def _turn(
    server: Server, bodies: list[bytes], clients: int, seconds: float
) -> dict[str, float]:
    before, cpu = await server.counters(), server.cpu_seconds()
    start = time.perf_counter()
    latencies: list[float] = []

    async def client(number: int) -> None:
        rng = random.Random(number)
        async with Connection(server.address) as connection:
            while time.perf_counter() - start < seconds:
                sent = time.perf_counter()
                status, answer = await connection.ask("POST", "/predict", rng.choice(bodies))
                assert status == 200, answer
                latencies.append(time.perf_counter() - sent)

    await asyncio.gather(*map(client, range(clients)))
    wall = time.perf_counter() - start
    cpu = server.cpu_seconds() - cpu
    after = await server.counters()
    grown = {name: after[name] - before.get(name, 0) for name in after}
    batches = grown["bertnli_batch_pairs_count"]
    return {
        "per_second": len(latencies) / wall,
        "p50_ms": float(np.percentile(latencies, 50)) * 1e3,
        "p99_ms": float(np.percentile(latencies, 99)) * 1e3,
        "batch": grown["bertnli_batch_pairs_sum"] / batches,
        "model_share": 100 * grown["bertnli_batch_seconds_sum"] / wall,
        "cores": cpu / wall,
        "cpu_ms": cpu / len(latencies) * 1e3,
    }


class Soak:
    """What the clients of a soak saw."""

    def __init__(self, server: Server, seconds: float) -> None:
        self.server, self.pairs = server, sentences()
        self.end = time.perf_counter() + seconds
        self.statuses: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
        self.latencies: dict[str, list[float]] = {kind: [] for kind in GOOD}
        self.first: dict[int, list[float]] = {}
        self.lost = self.different = 0
        self.memory: list[tuple[float, float]] = []

    async def client(self, kind: str, number: int) -> None:
        """Do what a client of a kind does, again and again."""
        acts: dict[str, Callable[[random.Random], Awaitable[str]]] = {
            "one pair": lambda rng: self._predict(kind, rng, 1),
            "many pairs": lambda rng: self._predict(kind, rng, rng.randint(2, 64)),
            "explain": self._explain,
            "page, health, metrics": self._get,
            "no JSON": lambda rng: self._bad(rng.choice([b"{", b"\xff\x00", b"[" * 9999, b""])),
            "wrong fields": lambda rng: self._bad(
                rng.choice([b"[]", b'{"premise": 1, "hypothesis": "A."}', b'{"pairs": []}'])
            ),
            "too long": lambda rng: self._bad(b"x" * rng.choice([300_000, 1_000_000, 4_000_000])),
            "leaves": self._leave,
            "slow body": self._slow_body,
        }
        rng = random.Random(f"{kind} {number}")
        while time.perf_counter() < self.end:
            start = time.perf_counter()
            try:
                status = await asyncio.wait_for(acts[kind](rng), 60)
            except (OSError, EOFError, asyncio.TimeoutError) as error:
                status = type(error).__name__
                self.lost += kind in GOOD
            self.statuses[kind][status] += 1
            if kind in GOOD:
                self.latencies[kind].append(time.perf_counter() - start)
            if kind not in ("one pair", "many pairs"):
                await asyncio.sleep(rng.uniform(0, 0.4))

    async def watch(self) -> None:
        """Look at the server's memory each second."""
        start = time.perf_counter()
        while time.perf_counter() < self.end:
            self.memory.append((time.perf_counter() - start, self.server.megabytes()))
            await asyncio.sleep(1)

    async def _predict(self, kind: str, rng: random.Random, count: int) -> str:
        places = rng.sample(range(len(self.pairs)), min(count, len(self.pairs)))
        chosen = [self.pairs[i] for i in places]
        body = json.dumps(chosen[0] if kind == "one pair" else {"pairs": chosen}).encode()
        async with Connection(self.server.address) as connection:
            status, answer = await connection.ask("POST", "/predict", body)
        if status == 200:
            predictions = json.loads(answer)["predictions"]
            self.different += len(predictions) != len(places)
            for place, prediction in zip(places, predictions, strict=False):
                result = list(prediction["probabilities"].values())
                first = self.first.setdefault(place, result)
                apart = max(abs(a - b) for a, b in zip(first, result, strict=True))
                self.different += apart > ROUNDING
        return str(status)

    async def _explain(self, rng: random.Random) -> str:
        async with Connection(self.server.address) as connection:
            body = json.dumps(rng.choice(self.pairs)).encode()
            return str((await connection.ask("POST", "/explain", body))[0])

    async def _get(self, rng: random.Random) -> str:
        async with Connection(self.server.address) as connection:
            return str((await connection.ask("GET", rng.choice(PATHS)))[0])

    async def _bad(self, body: bytes) -> str:
        async with Connection(self.server.address) as connection:
            return str((await connection.ask("POST", "/predict", body))[0])

    async def _leave(self, rng: random.Random) -> str:
        body = json.dumps({"pairs": rng.sample(self.pairs, 40)}).encode()
        async with Connection(self.server.address) as connection:
            sent = body[: rng.randint(0, 2 * len(body))]
            connection.writer.write(request("POST", "/predict", len(body)) + sent)
            await connection.writer.drain()
            await asyncio.sleep(rng.uniform(0, 0.02))
        return "left"

    async def _slow_body(self, rng: random.Random) -> str:
        async with Connection(self.server.address) as connection:
            connection.writer.write(request("POST", "/predict", 1000))
            trickle = asyncio.ensure_future(_trickle(connection))
            try:
                return str((await connection.answer())[0])
            finally:
                trickle.cancel()


async def _trickle(connection: Connection) -> None:
    while True:
        connection.writer.write(b"x")
        await asyncio.sleep(0.3)


async def soak(args: argparse.Namespace) -> dict[str, Any]:
    """Run clients of all kinds, and say what they saw."""
    seconds = args.seconds or 300
    server = Server(args, "--read-timeout", str(READ_TIMEOUT))
    run = Soak(server, seconds)
    clients = [run.client(kind, i) for kind, count in KINDS.items() for i in range(count)]
    await asyncio.gather(run.watch(), *clients)
    counted = await server.counters()
    status = server.stop()
    print("| client | answers | p50, ms | p95, ms | p99, ms |")
    print("|---|---|---|---|---|")
    percentiles = {}
    for kind, statuses in run.statuses.items():
        answers = ", ".join(f"{count:,} x {name}" for name, count in sorted(statuses.items()))
        times = [""] * 3
        if kind in GOOD:
            result = np.percentile(run.latencies[kind], (50, 95, 99)) * 1e3
            percentiles[kind] = dict(
                zip(("p50_ms", "p95_ms", "p99_ms"), result.tolist(), strict=True)
            )
            times = [f"{value:.1f}" for value in result]
        print(f"| {kind} | {answers} | {' | '.join(times)} |")
    memory = _memory(run.memory)
    wrong = _wrong(run, status)
    print(f"\nlost: {run.lost}; answers that differ from an earlier one: {run.different}")
    print("memory, MB: " + ", ".join(f"{name} {value:.0f}" for name, value in memory.items()))
    print(f"exit status after SIGTERM: {status}")
    print("all as it should be" if not wrong else "WRONG: " + "; ".join(wrong))
    return {
        "settings": vars(args),
        "statuses": run.statuses,
        "lost": run.lost,
        "different": run.different,
        "latencies": percentiles,
        "memory_mb": memory,
        "memory_by_second": run.memory,
        "pairs": counted["bertnli_pairs_total"],
        "exit": status,
        "wrong": wrong,
    }


def _memory(samples: list[tuple[float, float]]) -> dict[str, float]:
    """Return means of the first, middle and last twentieth, and of the halves of the second half.

    The start is taken after a twentieth, in which buffers are made.
    """
    values = [value for _, value in samples]
    part = max(1, len(values) // 20)
    middle, half = len(values) // 2, values[len(values) // 2 :]
    return {
        "ready": values[0],
        "start": statistics.mean(values[part : 2 * part]),
        "middle": statistics.mean(values[middle : middle + part]),
        "end": statistics.mean(values[-part:]),
        "third quarter": statistics.mean(half[: max(1, len(half) // 2)]),
        "fourth quarter": statistics.mean(half[len(half) // 2 :]),
    }


def _wrong(run: Soak, status: int) -> list[str]:
    """Return what was not as it should be."""
    result = []
    for kind, statuses in run.statuses.items():
        right = {"200"} if kind in GOOD else {"400", "408", "413", "422"}
        right = {"left"} if kind == "leaves" else right
        if set(statuses) - right:
            result.append(f"{kind}: {dict(statuses)}")
    if run.lost or run.different:
        result.append(f"{run.lost} answers lost, {run.different} different")
    if status:
        result.append(f"exit status {status}")
    return result


if __name__ == "__main__":
    main()
