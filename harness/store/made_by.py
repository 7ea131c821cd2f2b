"""The code that made a record. Its digests are in the record's provenance, and are compared with
the current code.

A developer who changes results raises a VERSION, which changes the stage's key. The digest of the
source does not change the key, since most changes of code do not change results. It only shows
where a new VERSION may have been forgotten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from harness.core import component, registry
from harness.core.sources import digest_of
from harness.core.text import number_of
from harness.store.stage import Record

CODE = "code"
"""Key in a record's provenance: part of the work -> digest of the source files that it uses."""


def code_behind(kind: str, config: Mapping[str, Any]) -> dict[str, str]:
    """Part of a stage's work -> digest of its source files. The parts are the stage itself and each
    component that its config names. Components that no longer exist are left out."""
    known = kind in registry.names("stage")
    modules = registry.find("stage", kind).modules() if known else ()
    digests = {f"stage {kind}": digest_of("harness.worker", *modules)}
    for axis, name in _components(config):
        digests[f"{axis} {name}"] = registry.find(axis, name).source_digest()
    return digests


def _components(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(axis, name) of the members in a stage's config, and of the labellers that they ask."""
    for axis in component.AXES:
        identity = config.get(axis)
        if not isinstance(identity, Mapping):
            continue
        if identity.get("name") in registry.names(axis):
            yield axis, identity["name"]
        for field in identity.values():
            asked = isinstance(field, Mapping) and "version" in field
            if asked and field.get("name") in registry.names("labeller"):
                yield "labeller", field["name"]


def changed_since(records: Iterable[Record]) -> str | None:
    """A warning about records that were made by other code than the current one; None if there are
    none."""
    stale, stages = Counter[str](), 0
    for record in records:
        known, current = record.provenance.get(CODE, {}), {}
        if record.ok and known:
            current = code_behind(record.kind, record.config)
        changed = [part for part, digest in current.items() if known.get(part, digest) != digest]
        stale.update(changed)
        stages += bool(changed)
    if not stale:
        return None
    return (
        f"{number_of(stages, 'cached stage was', 'cached stages were')} made by other code than"
        " there is now, and their VERSIONs are the same; raise the VERSION of what"
        f" gives other results: {_listed(stale)}"
    )


def mixed(records: Iterable[Record]) -> str | None:
    """A sentence about parts of which the records were made by several versions of the code; None
    if there are none."""
    known: dict[str, set[str]] = {}
    for record in records:
        for part, digest in record.provenance.get(CODE, {}).items() if record.ok else ():
            known.setdefault(part, set()).add(digest)
    several = Counter({part: len(digests) for part, digests in known.items() if len(digests) > 1})
    if not several:
        return None
    return f"Stages were made by different versions of this harness's code: {_listed(several)}."


def _listed(parts: Counter[str]) -> str:
    names = [f"{part} ({count})" for part, count in sorted(parts.items())]
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if names[6:] else "")
