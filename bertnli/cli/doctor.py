"""Show what is installed here, try each backend, and say what to do about what is wrong.

Each backend predicts one pair with the model that comes with bertnli, in a process of its own, and
is compared with the same model in float64 NumPy. The exit status is 0 if one backend works, at
least, and 1 if none does. The output is what to put into a report of a problem: it names neither
user nor host.

examples:
  bertnli doctor
  bertnli doctor --json > doctor.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bertnli.doctor import Examination, examine
from bertnli.doctor.advice import Advice, advise

#: What a shell takes for "no".
NOTHING_WORKS = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Examine, and print what was found."""
    found = examine()
    advice = [*advise(found)]
    if args.json:
        whole = {**found.to_dict(), "advice": [asdict(one) for one in advice]}
        print(json.dumps(_without_home(whole), indent=2))
    else:
        print("\n".join(_as_text(found, advice)))
    return 0 if found.works else NOTHING_WORKS


def _as_text(found: Examination, advice: Sequence[Advice]) -> Iterator[str]:
    machine = found.machine
    yield from _section("bertnli " + found.bertnli, _about_machine(machine, found.packages))
    for name, backend in found.backends.items():
        yield ""
        yield from _section(name, _about_backend(backend))
    if found.differences:
        yield ""
        rows = ((names, f"{d:.1e} apart at most") for names, d in found.differences.items())
        yield from _section("the test's probabilities", rows)
    if found.extras:
        yield ""
        yield from _section("extras", (_about_extra(*extra) for extra in found.extras.items()))
    yield ""
    yield from _section("downloads", _about_cache(found.cache))
    yield ""
    if not advice:
        yield "nothing is wrong"
        return
    yield "what is wrong, or worth knowing"
    for one in advice:
        yield f"  {one.kind}: {_without_home(one.text)}"


def _section(title: str, rows: Any) -> Iterator[str]:
    rows = [(key, str(value)) for key, value in rows if value is not None]
    width = max(len(key) for key, _ in rows)
    yield title
    for key, value in rows:
        yield f"  {key:<{width}}  {_without_home(value)}"


def _about_machine(
    machine: Mapping[str, Any], packages: Mapping[str, str | None]
) -> Iterator[tuple[str, Any]]:
    yield "system", machine["system"] + (f", {machine['libc']}" if machine["libc"] else "")
    yield "Python", f"{machine['python']}, {machine['executable']}"
    yield "packages", ", ".join(f"{name} {version or '-'}" for name, version in packages.items())
    yield "processor", machine["cpu"]["name"]
    known = machine["cpu"]["instructions"]
    yield "instructions", None if known is None else ", ".join(known) or "none of AVX2 and later"
    cores = machine["cores"]
    limit = "" if cores["limit"] is None else f", the time of {cores['limit']:g} of them allowed"
    yield "cores", f"{cores['usable']} of {cores['machine']}{limit}"
    memory = machine["memory"]
    sizes = [f"{_size(memory[k])} {word}" for k, word in _MEMORY.items() if memory[k] is not None]
    yield "memory", ", ".join(sizes) or None
    variables = (f"{name}={value}" for name, value in machine["variables"].items())
    yield "variables", ", ".join(variables) or "none that decides the number of threads"
    yield "NVIDIA driver", machine["nvidia_driver"]


_MEMORY = {"machine": "in all", "available": "available", "limit": "allowed"}


def _about_backend(backend: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if not backend["works"]:
        yield "does not work", backend["error"]
        return
    yield "version", f"{backend['version']}, imported in {backend['import_seconds']:.1f} s"
    yield "devices", ", ".join(backend["gpus"] or backend["devices"])
    threads, code = backend["threads"], backend["code for"]
    yield "threads", None if threads is None else f"{threads}" + (f", {code}" if code else "")
    yield (
        "libraries",
        ", ".join(
            name if has is True else f"{name} {has}" if has else f"no {name}"
            for name, has in backend["libraries"].items()
        ),
    )
    precision = backend["precision"]
    yield "precision", f"auto is {precision['auto']}: {precision['reason']}"
    test = backend["test"]
    chances = ", ".join(f"{name} {p:.4f}" for name, p in test["probabilities"].items())
    yield "test", f"{test['label']} ({chances}), {test['seconds']:.1f} s"


def _about_extra(name: str, packages: Mapping[str, str | None]) -> tuple[str, str]:
    missing = [package for package, version in packages.items() if version is None]
    if missing:
        return name, f'{", ".join(missing)} missing: pip install "bertnli[{name}]"'
    return name, ", ".join(f"{package} {version}" for package, version in packages.items())


def _about_cache(cache: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    moved = f", moved by {cache['moved_by']}" if cache["moved_by"] else ""
    yield "folder", cache["folder"] + moved
    kind = "can be written to" if cache["writable"] else "cannot be written to"
    yield (
        "state",
        f"{_size(cache['bytes'])}, {kind}" if cache["exists"] else f"not made yet, {kind}",
    )


def _size(number: int) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 1 << 30 else f"{number / 2**20:.1f} MiB"


def _without_home(value: Any) -> Any:
    """Return what is shown with ``~`` in place of the home folder, whose name is the user's."""
    if isinstance(value, str):
        home = str(Path.home())
        return value.replace(home + "/", "~/") if len(home) > 1 else value
    if isinstance(value, dict):
        return {key: _without_home(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_home(item) for item in value]
    return value
