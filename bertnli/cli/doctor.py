"""The command that examines a machine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertnli.cli.options import json_option
from bertnli.cli.parser import Command
from bertnli.doctor import diagnose
from bertnli.doctor.advice import advise


@dataclass(frozen=True, kw_only=True)
class Doctor(Command):
    """Show what is installed here, try each backend, and say what to do about what is wrong.

    Each backend predicts one pair with the model that comes with bertnli, in a process of its own,
    and is compared with the same model in float64 NumPy. The exit status is 0 if at least one
    backend works, and 1 if none does. Put the output into a report of a problem; the home folder is
    ~ in it.

    examples:
      bertnli doctor
      bertnli doctor --json > doctor.json
    """

    json: bool = json_option()

    def run(self) -> int:
        report = diagnose()
        advice = [{"kind": kind, "text": text} for kind, text in advise(report)]
        if self.json:
            text = json.dumps({**report, "advice": advice}, indent=2, ensure_ascii=False)
        else:
            sections = {
                f"bertnli {report['bertnli']}": {
                    **report["machine"],
                    "packages": report["packages"],
                },
                **report["backends"],
                "differences between the probabilities": report["differences"],
                'extras; pip install "bertnli[NAME]" installs one': report["extras"],
                "downloads": report["downloads"],
            }
            blocks = ["\n".join(_section(title, rows)) for title, rows in sections.items() if rows]
            lines = [f"{item['kind']}: {item['text']}" for item in advice] or ["nothing is wrong"]
            text = "\n\n".join([*blocks, "\n".join(lines)])
        home = str(Path.home())  # has the user's name
        print(text.replace(f"{home}/", "~/") if len(home) > 1 else text)
        return 0 if report["works"] else 1


def _section(title: str, rows: Mapping[str, Any]) -> Iterator[str]:
    width = max(map(len, rows))
    yield title
    for key, value in rows.items():
        yield f"  {key:<{width}}  {_text(value)}"


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value or "-")
