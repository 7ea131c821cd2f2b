"""Members that other packages bring, as installed packages bring them: by their entry points."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.core import registry
from harness.core.errors import SuiteError

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a package with one scorer on the path, a subclass of ROUGE."""

    def put(package: str, scorer: str, attribute: str = "Louder") -> None:
        module = package.replace("-", "_")
        code = "from harness.scorers.rouge import Rouge\n\n\nclass Louder(Rouge):\n    pass\n"
        (tmp_path / f"{module}.py").write_text(code)
        about = tmp_path / f"{module}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        points = f"[harness.scorers]\n{scorer} = {module}:{attribute}\n"
        (about / "entry_points.txt").write_text(points)
        _forget()

    monkeypatch.syspath_prepend(str(tmp_path))
    yield put
    monkeypatch.undo()
    _forget()


def _forget() -> None:
    for cached in (registry._entry_points, registry._packages, registry._ours, registry.find):
        if hasattr(cached, "cache_clear"):
            cached.cache_clear()


def test_a_member_is_called_as_its_entry_point_is_and_not_as_what_it_inherits_from(
    install: Install,
) -> None:
    rouge = registry.find("scorer", "rouge")
    install("louder-scorers", "louder_alone")
    louder = registry.find("scorer", "louder_alone")
    assert issubclass(louder, rouge)
    assert (louder.name, rouge.name) == ("louder_alone", "rouge")


def test_two_packages_with_one_name_are_refused_by_the_names_they_are_installed_by(
    install: Install,
) -> None:
    install("zeal-scorers", "loud")
    install("able-scorers", "loud")
    with pytest.raises(SuiteError, match="several packages bring a scorer called 'loud': able-scor"
                       "ers, zeal-scorers"):  # fmt: skip
        registry.find("scorer", "loud", "scorers[0]")


def test_a_package_may_not_bring_a_name_that_the_harness_has(install: Install) -> None:
    install("zeal-scorers", "rouge")
    install("able-scorers", "rouge")
    words = "called 'rouge': harness itself, able-scorers, zeal-scorers"
    with pytest.raises(SuiteError, match=words):
        registry.find("scorer", "rouge", "scorers[0]")


def test_a_member_that_is_not_there_is_told_with_the_package_that_promised_it(
    install: Install,
) -> None:
    install("hollow-scorers", "hollow", "Missing")
    with pytest.raises(SuiteError, match="'hollow' of the package hollow-scorers cannot be import"):
        registry.find("scorer", "hollow", "scorers[0]")
