"""The labeller of a stage, and the model that it reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from harness.core import component
from harness.labellers.base import Labeller
from harness.stages._models import load_beside, model_ref
from harness.stages.base import Job


def labeller_of(job: Job) -> Labeller:
    """With every field: those that change no label are no part of the stage's identity."""
    return build_labeller(job.config["labeller"]["name"], json.loads(job.locators["labeller"]))


def build_labeller(name: str, fields: Mapping[str, Any]) -> Labeller:
    """A labeller that was planned."""
    declared = cast(type[Labeller], component.find("labeller", name))
    return component.build_fields(declared, fields, name)


def labellers_model(job: Job, labeller: Labeller) -> tuple[Any, Any]:
    """Model and tokenizer; None of each for a labeller that reads none."""
    for role in labeller.beside:
        return load_beside(job, role)
    if labeller.reads_model:
        ref = model_ref(job.config["model"], job.config["device"], job.locators)
        return ref.load("lm"), ref.tokenizer()
    return None, None
