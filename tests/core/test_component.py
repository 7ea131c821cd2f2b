"""Members of the axes: found by name, built from their YAML, and wrong YAML told in sentences."""

from __future__ import annotations

import math
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, ConfigDict, Field

from harness.core import from_yaml, registry
from harness.core.component import Component
from harness.core.errors import HarnessError, SuiteError
from harness.core.from_yaml import build, build_fields, split_spec
from harness.core.registry import find, names


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: int = 1


class Toy(Component):
    axis = "scorer"
    name = "toy"

    rate: float = 0.5
    count: int | None = None
    word: str = "a"
    flag: bool = False
    inner: Inner | None = None
    many: list[Inner] = []


def told(**fields: Any) -> str:
    with pytest.raises(SuiteError) as raised:
        build_fields(Toy, fields, "suite.scorers[0].toy")
    return raised.value.message


def test_identity_is_name_version_and_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Toy().identity() == {
        "name": "toy", "version": 1, "rate": 0.5, "count": None, "word": "a", "flag": False,
        "inner": None, "many": [],
    }  # fmt: skip
    monkeypatch.setattr(Toy, "VERSION", 2)
    assert Toy(rate=0.25).identity()["version"] == 2
    assert Toy(rate=0.25).identity()["rate"] == 0.25


def test_working_part_is_what_impl_names() -> None:
    class Elsewhere(Toy):
        impl: ClassVar[str | None] = "math:tau"

    toy = Toy()
    assert toy.working_part() is toy
    assert Elsewhere().working_part() == math.tau
    # Compiled as it is, its code counts.
    assert toy.source_digest() != Elsewhere.source_digest()


def test_members_are_those_of_the_folder_then_those_of_other_packages() -> None:
    found = names("scorer")
    assert found[-1] == "toy_scorer" or "rouge" in found
    assert not any(name.startswith("_") or name == "base" for name in found)
    assert len(set(found)) == len(found)
    outside = registry.from_elsewhere("scorer")
    assert set(found[-len(outside) :]) == set(outside)
    assert all("harness" not in module for module in outside.values())
    assert find("scorer", "rouge").name == "rouge"
    assert all(find("scorer", name).axis == "scorer" for name in outside)


def test_member_of_another_package_is_told_by_that_packages_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    package, ours = "elsewhere.toy:Toy", "harness.scorers.toy:Toy"
    for value, dist, name in ((package, "a-package", "a-package"), (package, None, package),
                              (ours, "finetune-harness", "")):  # fmt: skip
        named = None if dist is None else SimpleNamespace(name=dist)
        point = SimpleNamespace(value=value, dist=named)
        monkeypatch.setattr(registry, "_entry_points", lambda axis, p=point: {"toy": p})
        assert registry.brought_by(Toy) == name
    monkeypatch.setattr(registry, "_entry_points", lambda axis: {})
    assert registry.brought_by(Toy) == ""


def test_fields_are_explained_by_their_docstrings_and_never_change() -> None:
    described = {
        name: info.description for name, info in find("method", "lora").model_fields.items()
    }
    assert all(described.values())
    with pytest.raises(ValueError, match="frozen"):
        Toy().rate = 0.1  # type: ignore[misc]

    class Wrong(Toy):
        rate: float = "x"  # type: ignore[assignment]

    with pytest.raises(SuiteError, match="rate"):
        build_fields(Wrong, {}, "here")


def test_unknown_name_is_answered_with_the_nearest_and_its_place() -> None:
    with pytest.raises(SuiteError, match=r"'rogue'.*'rouge'") as raised:
        find("scorer", "rogue", "suite.scorers[1]")
    assert raised.value.where == "suite.scorers[1]"
    assert "harness list scorers" in str(raised.value)


@pytest.mark.parametrize("brought", [object(), dict, Component, find("method", "lora")])
def test_what_another_package_brings_must_be_of_the_axis(
    brought: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = SimpleNamespace(load=lambda: brought, module="elsewhere", name="odd")
    monkeypatch.setattr(registry, "_entry_points", lambda axis: {"odd": point})
    with pytest.raises(SuiteError, match="entry point 'odd' is no scorer"):
        find("scorer", "odd")


def test_brought_member_without_a_name_has_its_entry_points(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Nameless(Component):
        axis = "scorer"

    for brought, name in ((Nameless, "odd"), (Toy, "toy")):
        point = SimpleNamespace(load=lambda brought=brought: brought)
        monkeypatch.setattr(registry, "_entry_points", lambda axis, p=point: {"odd": p})
        assert find("scorer", "odd").name == name


@pytest.mark.parametrize("count", [0, 2])
def test_module_of_an_axis_defines_one_member(count: int) -> None:
    module = ModuleType("made_up")
    vars(module).update(Toy=Toy, number=3)  # imported, not its own
    for i in range(count):
        vars(module)[f"Own{i}"] = type(f"Own{i}", (Toy,), {"__module__": "made_up"})
    with pytest.raises(HarnessError, match=f"made_up must define one component, not {count}"):
        registry._member(module)
    vars(module)["Own0"] = own = type("Own0", (Toy,), {"__module__": "made_up"})
    vars(module).pop("Own1", None)
    assert registry._member(module) is own


@pytest.mark.parametrize(
    ("spec", "name", "fields"),
    [
        ("rouge", "rouge", {}),
        ({"rouge": None}, "rouge", {}),
        ({"rouge": {}}, "rouge", {}),
        ({"rouge": {"use_stemmer": False}}, "rouge", {"use_stemmer": False}),
    ],
)
def test_yaml_of_a_member_is_its_name_or_its_name_with_options(
    spec: Any, name: str, fields: dict[str, Any]
) -> None:
    assert split_spec(spec, "scorer", "here") == (name, fields)


@pytest.mark.parametrize("spec", [3, ["rouge"], {}, {"rouge": {}, "bleu": {}}, {"rouge": 3},
                                  {1: {}}, None, True])  # fmt: skip
def test_yaml_of_another_shape_is_refused(spec: Any) -> None:
    with pytest.raises(SuiteError, match="a scorer is a name or one name with its options") as told:
        split_spec(spec, "scorer", "here")
    assert told.value.where == "here"


def test_member_is_built_and_what_it_needs_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made = build("scorer", {"rouge": {"use_stemmer": False}}, "suite.scorers[0]")
    assert made.identity()["use_stemmer"] is False
    monkeypatch.setattr(find("scorer", "rouge"), "requires", ("json", "no_such_package"))
    for make in (lambda: build("scorer", "rouge", "here"),
                 lambda: build_fields(find("scorer", "rouge"), {}, "here")):  # fmt: skip
        with pytest.raises(SuiteError, match=r"needs the package '?no_such_package") as raised:
            make()
        assert "pip install no_such_package" in str(raised.value)


def test_wrong_fields_are_told_with_place_value_and_choices() -> None:
    assert told(rat=1).startswith("suite.scorers[0].toy: unknown key 'rat'")
    assert "'rate'" in told(rat=1)
    assert "(given: 'x')" in told(rate="x")
    assert told(rate="x").startswith("suite.scorers[0].toy.rate: ")
    assert "'size'" in told(inner={"sise": 2})
    assert told(inner={"sise": 2}).startswith("suite.scorers[0].toy.inner: unknown key 'sise'")
    assert told(many=[{}, {"size": "x"}]).startswith("suite.scorers[0].toy.many[1].size: ")
    assert "toy.many[1]: unknown key 'sise'" in told(many=[{}, {"sise": 2}])
    assert "not a finite" in told(rate=math.inf) or "finite" in told(rate=math.inf)
    assert told(rate=None).endswith("(given: nothing)")
    assert told(flag="maybe").count("\n") == 0


@pytest.mark.parametrize("value", [True, False])
def test_truth_values_are_no_numbers(value: bool) -> None:
    for field in ("rate", "count"):
        assert f"{field} is a number, not {str(value).lower()}" in told(**{field: value})
    assert Toy(flag=value, count=1).flag is value


@pytest.mark.parametrize(
    ("value", "said"),
    [(True, "reads on, off, yes, no"), (1.5, "YAML reads a number"), (None, "as no value")],
)
def test_text_that_yaml_misreads_is_to_be_quoted(value: Any, said: str) -> None:
    assert said in told(word=value)
    assert "quote it" in told(word=value)
    assert "quote it" not in told(word=[])


def test_needed_field_is_missing() -> None:
    class Needy(Toy):
        must: int

    with pytest.raises(SuiteError, match=r"here\.must: missing, and needed"):
        build_fields(Needy, {}, "here")


def test_fields_deep_inside_are_told_by_their_own_choices_and_form() -> None:
    class Deepest(BaseModel):
        model_config = ConfigDict(extra="forbid")
        colour: str = Field("red-1", pattern=r"^[a-z]+-\d$", examples=["red-1"])

    class Middle(BaseModel):
        model_config = ConfigDict(extra="forbid")
        deepest: Deepest = Deepest()
        column: int = 1

    class Outer(Toy):
        middle: Middle = Middle()

    def said(**fields: Any) -> str:
        with pytest.raises(SuiteError) as raised:
            build_fields(Outer, {"middle": fields}, "here")
        return str(raised.value)

    assert "'colour'" in said(deepest={"colum": "red-1"}), "and not 'column', which is one above"
    assert "'column'" in said(colum=1)
    assert "colour: this must look like red-1" in said(deepest={"colour": "red"})


def test_mistakes_are_told_once_each_and_ten_at_most() -> None:
    ten, more = (told(**{f"x{i}": 1 for i in range(count)}) for count in (10, 12))
    assert (ten.count("unknown key"), more.count("unknown key")) == (10, 10)
    assert "of such" not in ten
    assert more.splitlines()[-1] == "  and 2 more of such"


def test_value_that_stands_elsewhere_is_blamed_there() -> None:
    places = {"rate": "suite.matrix[rate]", "word": "suite.set.toy.word"}
    with pytest.raises(SuiteError, match=r"^suite\.matrix\[rate\]: .*given: 'x'"):
        build_fields(Toy, {"rate": "x"}, "here", places)
    with pytest.raises(SuiteError, match=r"^here\.count: "):
        build_fields(Toy, {"count": "x"}, "here", places)
    with pytest.raises(SuiteError, match=r"^suite\.inner\.size: "):
        build_fields(Toy, {"inner": {"size": "x"}}, "here", {"inner": "suite.inner"})
    # Of several fields together, the one that was set elsewhere is to blame.
    with pytest.raises(SuiteError, match=r"^suite: rate is a number|^suite.*rate is a number"):
        build_fields(Toy, {"rate": True}, "here", {"rate": "suite.rate"})


def test_values_are_shown_as_yaml_has_them() -> None:
    assert [from_yaml._short(v) for v in (None, True, False, "a")] == [
        "nothing", "true", "false", "'a'",
    ]  # fmt: skip
    assert len(from_yaml._short("x" * 500)) < 100


@pytest.mark.parametrize(
    ("axis", "name", "packages"),
    [("scorer", "rouge", {"a-package"}), ("scorer", "stars", {"a-package", "b-package"})],
)
def test_two_members_of_one_name_are_refused_with_their_packages(
    axis: str, name: str, packages: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_packages", lambda _: {name: frozenset(packages)})
    monkeypatch.setattr(registry, "names", lambda _: [name])
    with pytest.raises(SuiteError) as refused:
        find(axis, name, "scorers[0]")
    assert all(package in refused.value.message for package in packages)
    assert refused.value.where == "scorers[0]"
