"""The sections of a suite, and the classes that define their keys."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from harness.models.checkpoint import CheckpointSpec
from harness.models.endpoint import CallBudget, Prices, ServedModel
from harness.models.spec import ModelSpec
from harness.suite.claims import Claim
from harness.suite.data import DataSpec, Split
from harness.suite.suite import Generate, Override, OwnResources, Suite
from harness.suite.tune import Budget, Range, Tune

SECTIONS: Mapping[str, tuple[type[BaseModel], ...]] = {
    "suite": (Suite,),
    "models": (ModelSpec,),
    "endpoint": (ServedModel, Prices, CallBudget),
    "data": (Split, DataSpec),
    "generate": (Generate,),
    "base": (Generate,),
    "overrides": (Override,),
    "tune": (Tune, Range),
    "budget": (Budget,),
    "checkpoints": (CheckpointSpec,),
    "claims": (Claim,),
    "resources": (OwnResources,),
}
"""Section -> the models that define its keys; `suite` is the whole file."""
