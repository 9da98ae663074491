"""Damage to files, and limits within which whatever comes of them must be read."""

import json
import os
import resource
import time
from pathlib import Path

#: Seconds of the processor's time, and bytes of memory. The bar is one second on a machine of its
#: own; where others use its caches, the same work takes twice as long.
SECONDS, BYTES = 2.0, 200 << 20
#: Events of Python's audit hooks that reading may not cause.
FORBIDDEN = (
    *("exec", "compile", "import", "pickle.find_class", "socket.", "subprocess.", "ctypes."),
    *("os.system", "os.exec", "os.posix_spawn", "os.fork"),
)
ODD_VALUES = [None, True, -1, 0, 1, 7, 2**31, 2**63, 2**70, 1e308, float("nan"), -0.5, 0.5, 12, 4]
ODD_VALUES += ["", "x", "\x00", "9" * 5000, "LABEL_0", "relu", "true"]
ODD_VALUES += [[], {}, [[]] * 3, {"a": {}}, ["a", "b"]]

watching = False
#: Seconds that the slowest call of `watched` took.
slowest = 0.0


def watch(event, arguments):
    """End the process where it does more than to read; a hook for `sys.addaudithook`."""
    if not watching:
        return
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & writes:
        if str(arguments[0]).startswith(os.environ["BERTNLI_CACHE"]):
            return
        raise SystemExit(f"it opened {arguments[0]} to write")
    if event.startswith(FORBIDDEN):
        raise SystemExit(f"it caused {event} {arguments}")


def damaged(raw, rng):
    """Damage bytes in one to four ways, at any place, or near one of the ends."""
    data = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        if not data:
            break
        near = rng.choice([len(data), len(data), min(200, len(data))])
        place = rng.randrange(near) if rng.random() < 0.8 else len(data) - 1 - rng.randrange(near)
        kind = rng.choice(["flip", "flip", "byte", "cut", "huge", "huge", "gap", "twice", "noise"])
        if kind == "flip":
            data[place] ^= 1 << rng.randrange(8)
        elif kind == "byte":
            data[place] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, ord("."), ord("(")])
        elif kind == "cut" and rng.random() < 0.3:
            del data[place:]
        elif kind == "huge":
            size = rng.choice([1, 2, 4, 8])
            sign = rng.choice([b"\x7f", b"\xff", b"\x00", b"\x80"])
            data[place : place + size] = b"\xff" * (size - 1) + sign
        elif kind == "gap":
            del data[place : place + rng.randint(1, 16)]
        elif kind == "twice":
            data[place:place] = data[place : place + rng.randint(1, 64)]
        elif kind == "noise":
            data[place : place + 4] = rng.randbytes(4)
    return bytes(data)


def damaged_json(raw, rng):
    """Replace a value or two anywhere in a JSON document by odd ones, or leave them out."""
    document = json.loads(raw)
    places = []

    def collect(value):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            places.append((value, key))
            if isinstance(value[key], dict | list):
                collect(value[key])

    collect(document)
    for _ in range(rng.randint(1, 2)):
        holder, key = rng.choice(places)
        if rng.random() < 0.2 and isinstance(holder, dict):
            holder.pop(key, None)
        elif isinstance(holder, dict) or key < len(holder):
            holder[key] = rng.choice(ODD_VALUES)
    text = json.dumps(document)
    if rng.random() < 0.05:
        text = rng.choice(["[" * 100_000, '{"a":' * 50_000, "1" * 10_000, "[]", "null", '"a"'])
    return text.encode()


def watched(read, *arguments):
    """Call a function within the limits."""
    global watching, slowest
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, hard))
    watching, start = True, time.process_time()
    try:
        return read(*arguments)
    finally:
        watching = False
        seconds = time.process_time() - start
        slowest = max(slowest, seconds)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        if seconds > SECONDS:
            raise SystemExit(f"it took {seconds:.1f} s")
