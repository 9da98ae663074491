"""What is wrong with a machine or an installation, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bertnli.doctor.examination import Examination
from bertnli.doctor.probe import TOLERANCE

#: Bytes that a training of bert.small needs, about.
LITTLE_MEMORY = 2 << 30


@dataclass(frozen=True)
class Advice:
    """Something that is wrong, or worth knowing.

    Args:
        kind: ``"error"``: something does not work or is wrong; ``"warning"``: it works, but slowly
            or not for long; ``"note"``: worth knowing.
        text: what it is, and what to do.
    """

    kind: str
    text: str


def advise(found: Examination) -> Iterator[Advice]:
    """Yield what is wrong, the errors first."""
    advice = [
        *_on_packages(found),
        *_on_backends(found),
        *_on_threads(found),
        *_on_machine(found),
        *_on_cache(found.cache),
    ]
    kinds = ("error", "warning", "note")
    yield from sorted(advice, key=lambda one: kinds.index(one.kind))


def _on_packages(found: Examination) -> Iterator[Advice]:
    numpy = found.packages["numpy"]
    mxnet = found.backends["mxnet"]
    if numpy is not None and int(numpy.split(".")[0]) >= 2 and mxnet.get("installed", True):
        yield Advice(
            "error",
            f"numpy {numpy} is installed, with which MXNet cannot be imported: "
            'pip install "numpy<2"',
        )


def _on_backends(found: Examination) -> Iterator[Advice]:
    if not found.works:
        yield Advice(
            "error",
            "no backend works, and nothing can be trained or predicted: "
            'pip install "bertnli[torch]"',
        )
    for name, backend in found.backends.items():
        if not backend["works"] and backend.get("installed", True):
            yield Advice("error", f"{name} is installed and does not work: {backend['error']}")
    for names, difference in found.differences.items():
        if not difference <= TOLERANCE:
            yield Advice(
                "error",
                f"{names}: the probabilities of the test are {difference:.1e} apart, where "
                f"{TOLERANCE:.0e} is expected at most; `bertnli parity bert.mini` shows which "
                "layer is off",
            )
    torch = found.backends["torch"]
    if found.machine["nvidia_driver"] and torch["works"] and not torch["gpus"]:
        yield Advice(
            "warning",
            "this machine has an NVIDIA driver, and torch sees no GPU: look at "
            "CUDA_VISIBLE_DEVICES, or install a build of torch with CUDA",
        )


def _on_threads(found: Examination) -> Iterator[Advice]:
    cores = found.machine["cores"]
    usable, limit = cores["usable"], cores["limit"]
    threads = found.machine["variables"].get("OMP_NUM_THREADS", "")
    working = [name for name, backend in found.backends.items() if backend["works"]]
    whole = usable if limit is None else min(usable, max(1, math.ceil(limit)))
    if whole < usable and not threads:
        yield Advice(
            "warning",
            f"the control group allows the time of {limit:g} cores, and the frameworks start "
            f"{usable} threads, which then wait for one another: set OMP_NUM_THREADS={whole}",
        )
    if threads.isdigit() and int(threads) > whole:
        yield Advice(
            "warning",
            f"OMP_NUM_THREADS={threads} is more than the {whole} cores there are, and slower: set "
            f"OMP_NUM_THREADS={whole}, or unset it",
        )
    for name in working:
        used = found.backends[name]["threads"]
        if used is not None and used < whole:
            yield Advice(
                "note",
                f"{name} computes with {used} of {whole} cores"
                + _who_limits(found.machine["variables"], used, name),
            )
    if len(working) > 1 and not threads and whole > 1:
        yield Advice(
            "note",
            f"OMP_NUM_THREADS is not set, and each process takes all {whole} cores: where several "
            f"run at once, give each its share, OMP_NUM_THREADS={max(1, whole // 2)} for two",
        )


def _who_limits(variables: dict[str, str], used: int, name: str) -> str:
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "MXNET_OMP_MAX_THREADS"):
        if variables.get(variable) == str(used):
            return f", for {variable}={used}; unset it where nothing else runs"
    if name == "mxnet":
        return "; MXNet takes half of them where a program imports mxnet before bertnli"
    return ""


def _on_machine(found: Examination) -> Iterator[Advice]:
    instructions = found.machine["cpu"]["instructions"]
    if instructions is not None and not {"AVX2", "NEON"} & set(instructions):
        yield Advice("warning", "the processor has no AVX2: everything is several times slower")
    torch = found.backends["torch"]
    if torch["works"] and torch["precision"]["auto"] != "bf16":
        yield Advice(
            "note", f"{torch['precision']['reason']}: --precision auto computes in fp32 on torch"
        )
    memory = found.machine["memory"]
    sizes = [size for size in (memory["available"], memory["limit"]) if size is not None]
    if sizes and min(sizes) < LITTLE_MEMORY:
        yield Advice(
            "warning",
            f"{min(sizes) / 2**30:.1f} GiB of memory are available: train with a small "
            "--micro-batch-size, or with --auto-batch, which finds one",
        )


def _on_cache(cache: dict[str, Any]) -> Iterator[Advice]:
    if not cache["writable"]:
        yield Advice(
            "warning",
            f"downloads go to {cache['folder']}, which cannot be written to: set BERTNLI_CACHE to "
            "a folder that can",
        )
