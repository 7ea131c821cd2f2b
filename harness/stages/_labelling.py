"""The labeller of a stage, and the model that it reads."""

from __future__ import annotations

import json
from typing import Any, cast

from harness.core import component
from harness.labellers.base import Labeller
from harness.stages._models import model_beside, model_ref
from harness.stages.base import Job


def labeller_of(job: Job) -> Labeller:
    """With every field: those that change no label are no part of the stage's identity."""
    name = job.config["labeller"]["name"]
    declared = cast(type[Labeller], component.find("labeller", name))
    return component.build_fields(declared, json.loads(job.locators["labeller"]), name)


def labellers_model(job: Job, labeller: Labeller) -> tuple[Any, Any]:
    """Model and tokenizer; None of each for a labeller that reads none."""
    for role in labeller.beside:
        method, ref, checkpoint = model_beside(job, role)
        return method.load_trained(ref, checkpoint).eval(), ref.tokenizer()
    if labeller.reads_model:
        ref = model_ref(job.config["model"], job.config["device"], job.locators)
        return ref.load("lm"), ref.tokenizer()
    return None, None
