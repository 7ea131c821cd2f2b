"""Faults of the fields of a task's file that can be told before lm-eval is imported.

Each is a fault that lm-eval itself fails at, later and in other words, or a field that it ignores
in silence. What needs rows or functions is told by the `requests` stage.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.scorers._lm_eval_data import data_faults, listed, shown
from harness.scorers._lm_eval_registry import Registry, registry
from harness.scorers._lm_eval_scan import FUNCTION, Settings

if TYPE_CHECKING:
    import jinja2

_BESIDE = frozenset(["include", "class", "group", "task_list"])
"""Keys of a task's file that lm-eval takes out before it reads the fields."""
_TEMPLATES = ("doc_to_text", "doc_to_target", "doc_to_choice", "description", "gen_prefix",
              "doc_to_decontamination_query")  # fmt: skip
_MADE_BY_TASK = frozenset(["exact_match"])
"""A metric of choices too, whatever it is registered for."""

Type = type | tuple[type, ...]
_TYPES: Mapping[str, tuple[str, Type]] = {
    **dict.fromkeys(
        ("description", "gen_prefix", "target_delimiter", "fewshot_delimiter", "task_alias",
         "output_type", "training_split", "validation_split", "test_split", "fewshot_split",
         "dataset_path", "use_prompt"), ("a text", str),
    ),
    **dict.fromkeys(
        ("dataset_kwargs", "generation_kwargs", "fewshot_config"), ("a mapping", dict)
    ),
    **dict.fromkeys(("metric_list", "filter_list"), ("a list", list)),
    **dict.fromkeys(("unsafe_code", "should_decontaminate"), ("true or false", bool)),
    "doc_to_text": ("a text or a !function", (str, int)),
    "doc_to_target": ("a text, a number or a !function", (str, int, list)),
    "doc_to_choice": ("a text, a list of texts or a !function", (str, list, dict)),
    "repeats": ("a number of times", int), "num_fewshot": ("a number", int),
    "tag": ("a text or a list of texts", (str, list)),
}  # fmt: skip
_LEAST = {"repeats": 1, "num_fewshot": 0}
NOTHING_DRAWN = "do_sample is true and temperature is 0, at which nothing is drawn"


def task_faults(settings: Settings, beside: Path) -> Iterator[str]:
    """What is wrong with a task's fields, each as `field: fault`.

    Args:
        settings: the task's file with what it includes. Those of a task that is a Python class are
            not judged: it reads them in a way of its own.
        beside: the folder of the file. What Python files in it register is known too.
    """
    if "class" in settings:
        return
    names = registry().with_own(beside)
    yield from _unknown_keys("", settings, names.fields | _BESIDE)
    wrong = set()
    for field, (what, kind) in _TYPES.items():
        value = settings.get(field)
        if value is not None and not _is(value, kind):
            wrong.add(field)
            yield f"{field}: is not {what}: {shown(value)}"
        elif field in _LEAST and value is not None and value < _LEAST[field]:
            yield f"{field}: is less than {_LEAST[field]}: {value}"
    known = {field: value for field, value in settings.items() if field not in wrong}
    checks: tuple[Callable[[Settings, Registry], Iterator[str]], ...] = (
        _texts, _choices, _output, _metrics, _filters, _shots, _generation, _data,
    )  # fmt: skip
    for check in checks:
        for fault in check(known, names):
            if fault.split(":")[0] not in wrong:  # what is of no such type is not missing
                yield fault


def group_faults(settings: Settings) -> Iterator[str]:
    """What is wrong with a group's own fields."""
    names, members = registry(), settings.get("task")
    if not isinstance(members, list) or not members:
        hint = f"; of the task {members}, it is a `tag`" if isinstance(members, str) else ""
        yield f"task: is no list of the group's tasks: {shown(members)}{hint}"
    for key in settings.keys() - names.group_fields - names.fields - _BESIDE:
        if meant := _meant(str(key), names.group_fields):
            yield f"{key}: lm-eval has no such field{meant}"
    metrics = settings.get("aggregate_metric_list") or []
    entries = metrics if isinstance(metrics, list) else [metrics]
    for number, entry in enumerate(entries):
        place = f"aggregate_metric_list[{number}]"
        if not isinstance(entry, dict) or "metric" not in entry:
            yield f"{place}: has no `metric`: {shown(entry)}"
            continue
        yield from _unknown_keys(f"{place}.", entry, names.group_metric_fields)
        aggregation = entry.get("aggregation", "mean")
        if aggregation != "mean" and not _is_function(aggregation):
            yield f"{place}.aggregation: is neither mean nor a !function: {shown(aggregation)}"


def _unknown_keys(before: str, keys: Collection[str], known: Collection[str]) -> Iterator[str]:
    for key in keys:
        if key not in known:
            yield f"{before}{key}: lm-eval has no such field{_meant(str(key), known)}"


def _texts(settings: Settings, names: Registry) -> Iterator[str]:
    if settings.get("doc_to_text") is None and settings.get("use_prompt") is None:
        yield "doc_to_text: is missing"
    yield from _templates("", settings)
    shots = settings.get("fewshot_config")
    if isinstance(shots, dict):
        yield from _templates("fewshot_config.", shots)


def _templates(before: str, settings: Settings) -> Iterator[str]:
    for field in _TEMPLATES:
        value = settings.get(field)
        texts = value if isinstance(value, list) else [value]
        for text in texts:
            if isinstance(text, str) and not _is_function(text) and (fault := _template(text)):
                yield f"{before}{field}: broken Jinja: {fault}"


@cache
def _jinja() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    environment.filters["regex_replace"] = re.sub  # lm-eval's own; its name is all that counts here
    return environment


def _template(text: str) -> str:
    import jinja2

    try:
        _jinja().compile(text)
    except jinja2.TemplateSyntaxError as error:
        return f"{error.message} (line {error.lineno} of {shown(text)})"
    return ""


def _choices(settings: Settings, names: Registry) -> Iterator[str]:
    choices = settings.get("doc_to_choice")
    if choices is None:
        if settings.get("output_type") == "multiple_choice" and "doc_to_choice" in settings:
            yield "doc_to_choice: is missing, and output_type is multiple_choice"
    elif isinstance(choices, list):
        if not choices:
            yield "doc_to_choice: is empty"
        for number, choice in enumerate(choices):
            if not isinstance(choice, str) or not choice:
                yield f"doc_to_choice[{number}]: is not a text with letters: {shown(choice)}"


def _output(settings: Settings, names: Registry) -> Iterator[str]:
    kind = settings.get("output_type")
    if kind is not None and kind not in names.output_types:
        meant = _meant(kind, names.output_types) or f" ({listed(names.output_types)})"
        yield f"output_type: lm-eval has no {shown(kind)}{meant}"


def _metrics(settings: Settings, names: Registry) -> Iterator[str]:
    entries = settings.get("metric_list")
    if entries is None:
        return
    if not entries:
        yield "metric_list: is empty"
    kind, own = settings.get("output_type"), settings.get("process_results") is not None
    for number, entry in enumerate(entries):
        yield from _metric(f"metric_list[{number}]", entry, names)
    named = [e["metric"] for e in entries if isinstance(e, dict) and _is(e.get("metric"), str)]
    made = [names.metrics.get(name, {kind}) | {kind if name in _MADE_BY_TASK else None}
            for name in named]  # fmt: skip
    computed = (
        own
        or kind not in names.output_types - {"generate_until"}
        or any(_is_function(n) for n in named)
    )
    if named and not computed and not any(kind in kinds for kinds in made):
        yield f"metric_list: output_type {kind} makes none of {', '.join(named)}"


def _metric(place: str, entry: Any, names: Registry) -> Iterator[str]:
    name = entry.get("metric") if isinstance(entry, dict) else None
    if not isinstance(name, str):
        yield f"{place}: has no `metric`: {shown(entry)}"
        return
    aggregation = entry.get("aggregation")
    if aggregation is None:
        if name not in names.metrics and not _is_function(name):
            yield (
                f"{place}.metric: lm-eval has no metric {shown(name)}"
                f"{_meant(name, names.metrics)}; a metric of your own needs its `aggregation`"
            )
    elif not _is_function(aggregation) and str(aggregation) not in names.aggregations:
        yield (
            f"{place}.aggregation: lm-eval has no {shown(aggregation)}"
            f"{_meant(str(aggregation), names.aggregations)}"
        )


def _filters(settings: Settings, names: Registry) -> Iterator[str]:
    for number, entry in enumerate(settings.get("filter_list") or []):
        place = f"filter_list[{number}]"
        if not isinstance(entry, dict) or not _is(entry.get("name"), str):
            yield f"{place}: has no `name`: {shown(entry)}"
        elif not isinstance(entry.get("filter"), list):
            yield f"{place}.filter: is no list of functions: {shown(entry.get('filter'))}"
        else:
            for step, function in enumerate(entry["filter"]):
                yield from _filter(f"{place}.filter[{step}]", function, names)


def _filter(place: str, function: Any, names: Registry) -> Iterator[str]:
    name = function.get("function") if isinstance(function, dict) else None
    if not isinstance(name, str):
        yield f"{place}: has no `function`: {shown(function)}"
        return
    if _is_function(name):
        return
    if name not in names.filters:
        yield f"{place}.function: lm-eval has no filter {shown(name)}{_meant(name, names.filters)}"
        return
    options = names.filters[name]
    for option in function.keys() - {"function"} if options is not None else ():
        if option not in (options or ()):
            yield f"{place}: the filter {name} has no option `{option}`"
    pattern = function.get("regex_pattern", "")
    try:
        re.compile(pattern)
    except (re.error, TypeError) as error:
        yield f"{place}.regex_pattern: is no regular expression: {shown(pattern)} ({error})"


def _shots(settings: Settings, names: Registry) -> Iterator[str]:
    shots = settings.get("fewshot_config")
    if not isinstance(shots, dict):
        return
    yield from _unknown_keys("fewshot_config.", shots, names.fewshot_fields)
    sampler = shots.get("sampler")
    if sampler is not None and not _is_function(sampler) and str(sampler) not in names.samplers:
        meant = _meant(str(sampler), names.samplers) or f" ({listed(names.samplers)})"
        yield f"fewshot_config.sampler: lm-eval has no {shown(sampler)}{meant}"


def _generation(settings: Settings, names: Registry) -> Iterator[str]:
    options = settings.get("generation_kwargs")
    if not isinstance(options, dict):
        return
    until = options.get("until")
    stops = until if isinstance(until, list) else [] if until is None else [until]
    if any(not isinstance(stop, str) for stop in stops):
        yield f"generation_kwargs.until: is no text or list of texts: {shown(until)}"
    heat = options.get("temperature")
    if options.get("do_sample") is True and _is(heat, (int, float)) and heat == 0:
        yield f"generation_kwargs: {NOTHING_DRAWN}"
    length = options.get("max_gen_toks")
    if length is not None and not _is(length, int):
        yield f"generation_kwargs.max_gen_toks: is no number: {shown(length)}"


def _data(settings: Settings, names: Registry) -> Iterator[str]:
    return data_faults(settings)


def _is(value: Any, kind: Type) -> bool:
    """Whether a value is of a type; true and false are no numbers."""
    return isinstance(value, kind) and (not isinstance(value, bool) or kind is bool)


def _is_function(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(FUNCTION)


def _meant(name: str, known: Collection[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean `{nearest[0]}`?" if nearest else ""
