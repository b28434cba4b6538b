"""Hilum: from a folder of medical images to a classifier you can defend.

The one public door: each command's twin, and what they return. Names are imported when first
used, so that predicting never waits for PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hilum.errors import (
    DataError,
    HilumError,
    MissingExtraError,
    ModelError,
    PatientOverlapError,
    RunError,
    SettingError,
    UnreadableError,
)

if TYPE_CHECKING:
    from hilum.auditing import Audit, Finding, audit
    from hilum.columns import Columns
    from hilum.comparing import Comparison, compare
    from hilum.dataset import Dataset, load_dataset
    from hilum.explanation import Explanation, explain
    from hilum.fetching import fetch
    from hilum.inference import Model, Prediction, load, predict
    from hilum.patient_predictions import (
        PatientPrediction,
        PatientPredictions,
        predict_patients,
    )
    from hilum.phantom import make_phantoms
    from hilum.pixels import PixelSpec, prepare
    from hilum.planning import Plan
    from hilum.preparation import DataOptions, plan
    from hilum.readers import Facts, Picture, read
    from hilum.recipes import describe_recipe, recipe_names
    from hilum.records import Run, open_run
    from hilum.report import write_audit, write_report
    from hilum.runs import evaluate, resume, train

__version__ = "0.1.0"

__all__ = [
    "Audit",
    "Columns",
    "Comparison",
    "DataError",
    "DataOptions",
    "Dataset",
    "Explanation",
    "Facts",
    "Finding",
    "HilumError",
    "MissingExtraError",
    "Model",
    "ModelError",
    "PatientOverlapError",
    "PatientPrediction",
    "PatientPredictions",
    "Picture",
    "PixelSpec",
    "Plan",
    "Prediction",
    "Run",
    "RunError",
    "SettingError",
    "UnreadableError",
    "audit",
    "compare",
    "describe_recipe",
    "evaluate",
    "explain",
    "fetch",
    "load",
    "load_dataset",
    "make_phantoms",
    "open_run",
    "plan",
    "predict",
    "predict_patients",
    "prepare",
    "read",
    "recipe_names",
    "resume",
    "train",
    "write_audit",
    "write_report",
]

_MODULES = {
    "auditing": ("Audit", "Finding", "audit"),
    "columns": ("Columns",),
    "comparing": ("Comparison", "compare"),
    "dataset": ("Dataset", "load_dataset"),
    "explanation": ("Explanation", "explain"),
    "fetching": ("fetch",),
    "inference": ("Model", "Prediction", "load", "predict"),
    "patient_predictions": ("PatientPrediction", "PatientPredictions", "predict_patients"),
    "phantom": ("make_phantoms",),
    "pixels": ("PixelSpec", "prepare"),
    "planning": ("Plan",),
    "preparation": ("DataOptions", "plan"),
    "readers": ("Facts", "Picture", "read"),
    "recipes": ("describe_recipe", "recipe_names"),
    "records": ("Run", "open_run"),
    "report": ("write_audit", "write_report"),
    "runs": ("evaluate", "resume", "train"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hilum' has no attribute '{name}'")
    return getattr(importlib.import_module(f"hilum.{_HOMES[name]}"), name)
