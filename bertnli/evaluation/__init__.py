"""Evaluation of classifiers: scores with intervals, calibration, a baseline, a report."""

from bertnli.evaluation.baseline import HypothesisBaseline
from bertnli.evaluation.page import check_report_folder, to_html, write_report
from bertnli.evaluation.predictions import Encoding, logits_of
from bertnli.evaluation.report import report
from bertnli.evaluation.scores import (
    calibration_bins,
    calibration_error,
    fit_temperature,
    wilson_interval,
)

__all__ = [
    "Encoding",
    "HypothesisBaseline",
    "calibration_bins",
    "calibration_error",
    "check_report_folder",
    "fit_temperature",
    "logits_of",
    "report",
    "to_html",
    "wilson_interval",
    "write_report",
]


def __dir__() -> list[str]:
    return __all__
