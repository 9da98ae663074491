"""What to do about a diagnosis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bertnli.doctor.probe import TOLERANCE


def advise(diagnosis: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield pairs of a kind and a text, errors first.

    An ``error`` is something that does not work or is wrong; a ``warning`` something that works,
    but slowly or not fully.
    """
    if not diagnosis["works"]:
        yield "error", 'no backend works: pip install "bertnli[torch]"'
    for name, backend in diagnosis["backends"].items():
        if not backend["works"] and backend["error"] != "not installed":
            yield "error", f"{name} is installed and does not work: {backend['error']}"
    for names, difference in diagnosis["differences"].items():
        if not difference <= TOLERANCE:
            yield (
                "error",
                f"{names}: the test's probabilities differ by {difference:.1e}, and at most "
                f"{TOLERANCE:.0e} is expected; `bertnli parity bert.mini` shows the layer",
            )
    torch, machine = diagnosis["backends"]["torch"], diagnosis["machine"]
    if machine["nvidia_driver"] and torch["works"] and not torch["gpus"]:
        yield (
            "warning",
            "this machine has an NVIDIA driver, and torch sees no GPU: look at "
            "CUDA_VISIBLE_DEVICES, or install a build of torch with CUDA",
        )
    threads, cores = machine["variables"].get("OMP_NUM_THREADS", ""), machine["cores"]
    usable = min(cores["usable"], cores["limit"] or cores["usable"])
    if threads.isdigit() and int(threads) >= usable + 1:
        yield (
            "warning",
            f"OMP_NUM_THREADS={threads} is more than the {usable:g} cores there are, and slower",
        )
    if not diagnosis["downloads"]["writable"]:
        folder = diagnosis["downloads"]["folder"]
        yield "warning", f"{folder} cannot be written to: set BERTNLI_CACHE to another folder"
