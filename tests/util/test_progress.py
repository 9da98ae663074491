"""Lines of a log that show how far long work is."""

import pytest

from bertnli._util.progress import EVERY, LogLines, duration


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_line_every_half_minute(capsys):
    clock = Clock()
    lines = LogLines("dev.tsv", total=10_000, more=2_000, clock=clock)
    for second in range(1, 100):
        clock.now = float(second)
        lines.update(40 * second, "a note" if second > 80 else "")
    out, err = capsys.readouterr()
    assert out == ""
    assert EVERY == 30
    assert err.splitlines() == [
        "dev.tsv: 1,200 of 10,000 pairs, 40.0 pairs/s, about 4 min left",
        "dev.tsv: 2,400 of 10,000 pairs, 40.0 pairs/s, about 4 min left",
        "dev.tsv: 3,600 of 10,000 pairs, a note, 40.0 pairs/s, about 4 min left",
    ]


def test_what_is_not_known_is_not_said(capsys):
    clock = Clock()
    lines = LogLines("model.zip", "MB", done=100, clock=clock)
    clock.now = 60.0
    lines.update(130)
    stuck = LogLines("stuck", total=10, clock=clock)
    clock.now = 120.0
    stuck.update(0)
    err = capsys.readouterr().err
    assert err == "model.zip: 130 MB, 0.5 MB/s\nstuck: 0 of 10 pairs, 0.0 pairs/s\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5_990, "100 min"), (9_000, "2.5 h")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text
