"""Trackers that a suite asks for: known, installed, and of use to what trains."""

from __future__ import annotations

from importlib.util import find_spec

from harness.core.errors import SuiteError, unknown
from harness.objectives._trl.arguments import trackers
from harness.planning.graph import Plan
from harness.planning.recipe import trainings

_PACKAGES = {"azure_ml": ("azureml",), "flyte": ("flytekit",), "kubeflow": (),
             "tensorboard": ("tensorboard", "tensorboardX")}  # fmt: skip
"""Tracker -> the packages of which one is needed, where it is not one of its own name."""


def refuse_trackers(planned: Plan) -> None:
    """Whether every tracker can be reported to on this machine.

    Raises:
        SuiteError: one that nothing knows, that is not installed, or that an objective has no use
            for; naming what to install or remove.
    """
    for index, name in enumerate(planned.suite.resources.report_to):
        where = f"resources.report_to[{index}]"
        if name not in (known := trackers()):
            raise SuiteError(unknown("tracker", name, known), where=where)
        packages = _PACKAGES.get(name, (name,))
        if packages and not any(find_spec(package) for package in packages):
            raise SuiteError(
                f"'{name}' needs the package {packages[0]}, which is not installed",
                where=where,
                fix=f"pip install {packages[0]}, or take it out of the list",
            )
        for path in planned.paths:
            for training in trainings((path.draft or path).variant):
                taken = training.objective.trackers
                if taken is not None and name not in taken:
                    raise SuiteError(
                        f"'{training.objective.name}' reports to {', '.join(taken)},"
                        f" not to '{name}'",
                        where=where,
                        fix="take it out of the list; every stage keeps its steps.jsonl",
                    )
