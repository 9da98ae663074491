"""How many sentences of an SNLI file the raw-text tokenizer cuts exactly as the parse columns do.

python benchmarks/tokenizer_agreement.py snli_1.0/snli_1.0_dev.txt
"""

from __future__ import annotations

import argparse
import gzip
import re
import time
from collections.abc import Iterator

from bertnli.text.tokenize import treebank_tokenize


def sentences(path: str) -> Iterator[tuple[str, list[str]]]:
    """Yield raw sentence and tokens of its binary parse, both sentences of each row."""
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8", newline="\n") as file:
        header = file.readline().rstrip("\n").split("\t")
        pairs = [
            (header.index(f"sentence{i}"), header.index(f"sentence{i}_binary_parse"))
            for i in (1, 2)
        ]
        for row in file:
            fields = row.rstrip("\n").split("\t")
            for raw, parse in pairs:
                yield fields[raw], re.sub(r"[()]", "", fields[parse]).split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", help="SNLI's 14-column .txt, perhaps gzipped")
    parser.add_argument("--limit", type=int, help="show this many differing sentences, not all")
    arguments = parser.parse_args()
    pairs = list(sentences(arguments.file))
    start = time.perf_counter()
    result = [treebank_tokenize(raw) for raw, _ in pairs]
    seconds = time.perf_counter() - start
    wrong = [
        (raw, ours, theirs)
        for (raw, theirs), ours in zip(pairs, result, strict=True)
        if ours != theirs
    ]
    for raw, ours, theirs in wrong[: arguments.limit]:
        print(f"text   {raw}\nours   {' '.join(ours)}\ntheirs {' '.join(theirs)}\n")
    agreement = 1 - len(wrong) / len(pairs)
    print(
        f"{len(pairs)} sentences, {len(wrong)} differ: {agreement:.3%} identical; "
        f"{len(pairs) / seconds:,.0f} sentences/s"
    )


if __name__ == "__main__":
    main()
