"""Judges that have a reason to favour a variant, for warnings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.labellers.base import Labeller
from harness.models.files import ModelInfo
from harness.planning.duels import OTHER
from harness.planning.graph import Scored, VariantPath, behind
from harness.stages._judging import roles_of
from harness.stages._models import REWARD
from harness.stages.base import member_of
from harness.stages.score import Score, judging_stages
from harness.store.stage import Stage

_PLEASED = "policies learn to please the judge that trains them, arXiv:2603.12246"
_OWN_KIND = "judges favour answers that are like their own, arXiv:2404.13076"


def partial_judges(paths: Sequence[VariantPath], models: Mapping[str, ModelInfo]) -> Iterator[str]:
    """Warnings about judges of variants that they helped to train, or with which they share a base:
    each once, with the names of the variants.

    Args:
        models: the entries of `models:`.
    """
    groups: dict[str, dict[str, None]] = defaultdict(dict)
    answered = {stage.key: path for path in paths for stage in path.generate.values()}
    for path in paths:
        for scored in path.scores:
            for judge, reason in _reasons(path, scored, models, answered):
                title = scored.label or scored.scorer
                groups[f"{title}: the judge {judge} {reason}"][path.variant.group] = None
    for text, named in groups.items():
        yield text.replace("{variants}", ", ".join(named))


def _reasons(
    path: VariantPath,
    scored: Scored,
    models: Mapping[str, ModelInfo],
    answered: Mapping[str, VariantPath],
) -> Iterator[tuple[str, str]]:
    """(name of a judge of a score, why it may favour the variant, or what it is compared with).

    Args:
        answered: key of a stage of answers -> the path of who gave them.
    """
    if scored.stage.kind != "score":
        return
    stage = judging_stages(scored.stage)[0]  # all of them ask the same judges
    score, beside = Score.of(stage), stage.inputs.get(OTHER)
    other = None if beside is None else answered.get(beside.key)
    for asked, fields in score.labellers.items():
        for role, judge in roles_of(member_of("labeller", fields), asked):
            model = score.others.get(role, {}).get("model", {})
            name = getattr(judge, "model", judge.name) or path.variant.model
            if path.train is not None and _trained(path.train, judge, stage, role, model):
                yield name, f"also trained {{variants}}, which it scores here ({_PLEASED})"
            if kinship := _kinship(path, judge, model, models):
                yield name, f"{kinship} {{variants}}, which it scores ({_OWN_KIND})"
            elif other is not None and (kinship := _kinship(other, judge, model, models)):
                whose = f"{kinship} {other.variant.group}, with which it compares"
                yield name, f"{whose} {{variants}} ({_OWN_KIND})"


def _trained(
    train: Stage, judge: Labeller, score: Stage, role: str, model: Mapping[str, Any]
) -> bool:
    """Whether the judge labelled the rows of one of the variant's trainings, or is the reward model
    that one of them follows."""
    reward = score.inputs.get(f"{role}.{REWARD}")
    for stage in behind(train):
        if reward is not None and reward in stage.inputs.values():
            return True
        labelled = stage.config.get("labeller") if stage.kind == "label" else None
        if labelled == judge.identity() and reward is None:
            return _content(stage.config.get("model") or {}) == _content(model)
    return False


def _kinship(
    path: VariantPath, judge: Labeller, model: Mapping[str, Any], models: Mapping[str, ModelInfo]
) -> str:
    """How a judge is related to the base of a variant; empty if it is not."""
    base = models[path.variant.model]
    if base.endpoint is not None:
        address, name = getattr(judge, "base_url", None), getattr(judge, "model", None)
        if address is None or _plain(name) != _plain(base.endpoint.model):
            return ""
        if address != base.endpoint.base_url:
            return "has the name, at another address, of the base of"
        return "is" if path.train is None else "is the base of"
    if not model:
        return ""
    if _content(model) == _content(base.identity):
        return "is the base of"
    mine = [info for info in models.values() if _content(info.identity) == _content(model)]
    if mine and mine[0].shapes and mine[0].shapes == base.shapes:
        return "has the architecture and sizes of the base of"
    return ""


def _plain(name: str | None) -> str:
    """A model's name without who makes it, as gateways put that before it."""
    return (name or "").rpartition("/")[2].lower()


def _content(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an identity that says which weights they are."""
    return {name: identity[name] for name in ("content", "hub", "revision", "gguf") if
            name in identity}  # fmt: skip
