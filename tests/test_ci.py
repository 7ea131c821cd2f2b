"""The GitHub Action, the comment and the GitLab template: each is run as its file says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from harness.cli import main
from harness.report.check import markdown
from tests.importers import samples

ROOT = Path(__file__).parents[1]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())


def step(name: str) -> dict[str, Any]:
    (found,) = [s for s in ACTION["runs"]["steps"] if s["name"] == name]
    return found


def run_step(name: str, folder: Path, values: dict[str, str], **more: str) -> tuple[int, str]:
    """Run a step's script as a runner does: its environment from the inputs, no text put in."""
    told = step(name)
    known = {f"inputs.{key}": str(given.get("default", "")) for key, given in
             ACTION["inputs"].items()} | values | {"github.action_path": str(ROOT)}  # fmt: skip
    assert "${{" not in told["run"], "an input must not become a part of the script"
    environment = {
        key: re.sub(r"\$\{\{ (.+?) \}\}", lambda m: known.get(m[1], ""), value)
        for key, value in told.get("env", {}).items()
    }
    bin_ = folder / "bin"
    bin_.mkdir(exist_ok=True)
    if not (bin_ / "python").exists():
        (bin_ / "python").symlink_to(sys.executable)
        (bin_ / "python").unlink()
        (bin_ / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (bin_ / "python").chmod(0o755)
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", told["run"]],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, **environment, **more, "PYTHONPATH": str(ROOT),
             "PATH": f"{bin_}:{os.environ['PATH']}"},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def results(folder: Path) -> tuple[str, str]:
    """(candidate that is worse, baseline)."""
    right = [1] * 300 + [0] * 100
    samples.table(folder, right, "base.csv")
    samples.table(folder, [0] * 90 + right[90:], "new.csv")
    return "new.csv", "base.csv"


def test_action_runs_the_check_and_tells_its_outputs(tmp_path: Path) -> None:
    new, base = results(tmp_path)
    outputs, summary = tmp_path / "outputs", tmp_path / "summary.md"
    for candidate, verdict, status in ((new, "regressed", 1), (base, "passed", 0),
                                       ("gone.csv:x", "not judged", 2)):  # fmt: skip
        outputs.write_text("")
        values = {"inputs.candidate": candidate, "inputs.baseline": base,
                  "inputs.margin": "0.05 accuracy=0.05", "inputs.allow": "inconclusive,prompts",
                  "inputs.name": "night; touch hacked"}  # fmt: skip
        code, said = run_step("Check", tmp_path, values, GITHUB_OUTPUT=str(outputs),
                              GITHUB_STEP_SUMMARY=str(summary))  # fmt: skip
        assert code == 0, said
        told = dict(line.split("=", 1) for line in outputs.read_text().splitlines())
        assert (told["verdict"], told["status"]) == (verdict, str(status)), said
        code, _ = run_step("Verdict", tmp_path, {"steps.check.outputs.status": told["status"]})
        assert code == status
        assert (tmp_path / "harness-check" / "junit.xml").is_file() == (status != 2)
    assert not (tmp_path / "hacked").exists()
    assert "REGRESSED" in summary.read_text()
    assert set(ACTION["inputs"]) >= {"candidate", "baseline", "claims", "allow"}
    assert set(ACTION["outputs"]) == {"verdict", "report"}


def test_no_input_of_the_action_is_read_as_an_option_or_left_out(tmp_path: Path) -> None:
    new, base = results(tmp_path)
    outputs, report = tmp_path / "outputs", tmp_path / "harness-check"
    report.mkdir()
    for candidate in ("--help", "-h", "--version", ""):
        (report / "check.json").write_text("of an earlier run")
        outputs.write_text("")
        values = {"inputs.candidate": candidate, "inputs.baseline": base}
        run_step("Check", tmp_path, values, GITHUB_OUTPUT=str(outputs))
        told = dict(line.split("=", 1) for line in outputs.read_text().splitlines())
        assert (told["verdict"], told.get("report")) == ("not judged", None), candidate
    values = {"inputs.candidate": new, "inputs.baseline": base, "inputs.margin":
              "0.9\naccuracy=0.01\n", "inputs.allow": "inconclusive\nprompts\n"}  # fmt: skip
    run_step("Check", tmp_path, values, GITHUB_OUTPUT=str(outputs))
    told = json.loads((report / "check.json").read_text())
    assert told["claims"][0]["margin"] == 0.01
    assert told["allowed"] == ["inconclusive", "prompts"]


def test_no_input_of_the_action_writes_an_output_and_names_of_artifacts_are_valid(
    tmp_path: Path,
) -> None:
    new, base = results(tmp_path)
    outputs, names = tmp_path / "outputs", set()
    values = {"inputs.candidate": base, "inputs.baseline": base}
    for name in ("night/a", "night-a", 'a:b"c', ""):
        outputs.write_text("")
        run_step("Check", tmp_path, {**values, "inputs.name": name}, GITHUB_OUTPUT=str(outputs))
        told = dict(line.split("=", 1) for line in outputs.read_text().splitlines())
        assert re.fullmatch(r"[\w.-]+", told["artifact"])
        names.add(told["artifact"])
    assert len(names) == 4
    outputs.write_text("")
    values = {**values, "inputs.candidate": new, "inputs.report-dir": "x\nverdict=passed"}
    code, _ = run_step("Check", tmp_path, values, GITHUB_OUTPUT=str(outputs))
    assert (code, outputs.read_text()) == (1, "")


def test_action_without_a_verdict_fails(tmp_path: Path) -> None:
    assert run_step("Verdict", tmp_path, {"steps.check.outputs.status": ""})[0] == 4


def test_report_is_kept_and_forks_are_not_asked_to_comment() -> None:
    kept = step("Keep the report")
    assert kept["uses"].startswith("actions/upload-artifact@")
    assert "always()" in kept["if"]
    assert "head.repo.full_name == github.repository" in step("Comment")["if"]


def test_check_of_files_needs_only_the_libraries_that_the_action_installs(tmp_path: Path) -> None:
    lines = (ROOT / "ci" / "requirements.txt").read_text().splitlines()
    named = {re.split(r"[><=]", line)[0] for line in lines if line and not line.startswith("#")}
    allowed = {*named, "yaml", "dateutil", "pydantic_core", "annotated_types", "markupsafe",
               "typing_extensions", "typing_inspection", "six", "patsy", "packaging", "pytz",
               "tzdata", "pyarrow", "harness"}  # fmt: skip
    new, base = results(tmp_path)
    code = f"""
import sys, importlib.abc, importlib.machinery
allowed = {allowed!r}
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if "." not in name and spec and "site-packages" in str(spec.origin):
            if name not in allowed and not name.startswith("_"):
                raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
from harness.cli import main
main(["check", {new!r}, "--baseline", {base!r}, "--report-dir", "out"])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True,
                          text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "REGRESSED" in done.stdout


class Comments(BaseHTTPRequestHandler):
    """The comments of a repository's pull requests, as GitHub's REST API answers."""

    kept: dict[int, dict[str, Any]] = {}
    asked: list[tuple[str, str]] = []

    def do_GET(self) -> None:
        type(self).asked.append(("GET", self.path))
        if self.path.startswith("/repos/o/r/pulls?"):
            assert "head=forker%3Abranch" in self.path
            self._answer([{"number": 8, "head": {"sha": "other"}},
                          {"number": 7, "head": {"sha": "abc"}}])  # fmt: skip
        elif self.path.startswith("/repos/o/r/issues/7/comments"):
            page = int(self.path.rsplit("page=", 1)[1])
            found = list(self.kept.values())
            self._answer(found[100 * (page - 1) : 100 * page])
        else:
            self._answer({}, 404)

    def do_POST(self) -> None:
        type(self).asked.append(("POST", self.path))
        if self.headers["Authorization"] != "Bearer secret":
            self._answer({}, 403)
            return
        number = len(self.kept) + 1
        self.kept[number] = {"id": number, "body": self._body()}
        self._answer({}, 201)

    def do_PATCH(self) -> None:
        type(self).asked.append(("PATCH", self.path))
        self.kept[int(self.path.rsplit("/", 1)[1])]["body"] = self._body()
        self._answer({})

    def _body(self) -> str:
        length = int(self.headers["Content-Length"])
        return str(json.loads(self.rfile.read(length))["body"])

    def _answer(self, content: Any, status: int = 200) -> None:
        raw = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *arguments: Any) -> None:
        """Nothing is printed."""


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Comments]]:
    Comments.kept, Comments.asked = {}, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Comments)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("GITHUB_API_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("GITHUB_REPOSITORY", "o/r")
    monkeypatch.setenv("GITHUB_TOKEN", "secret")
    yield Comments
    server.shutdown()
    server.server_close()
    thread.join()


def comment(folder: Path, event: dict[str, Any], *options: str) -> tuple[int, str]:
    (folder / "event.json").write_text(json.dumps(event))
    os.environ["GITHUB_EVENT_PATH"] = str(folder / "event.json")
    try:
        done = CliRunner().invoke(main, ["comment", "--report-dir", str(folder / "out"), *options])
    finally:
        del os.environ["GITHUB_EVENT_PATH"]
    return done.exit_code, done.output


PULL = {"pull_request": {"number": 7}}


def checked(folder: Path) -> None:
    new, base = results(folder)
    CliRunner().invoke(main, ["check", str(folder / new), "--baseline", str(folder / base),
                              "--report-dir", str(folder / "out")])  # fmt: skip


def test_one_comment_is_updated_and_never_a_second_one_written(
    tmp_path: Path, service: type[Comments]
) -> None:
    checked(tmp_path)
    for number in range(150):  # the comment need not be among the first hundred
        service.kept[number] = {"id": number, "body": f"hello {markdown.MARKER}"}
    assert comment(tmp_path, PULL) == (0, "commented on pull request 7\n")
    assert comment(tmp_path, PULL) == (0, "updated the comment on pull request 7\n")
    ours = [c for c in service.kept.values() if c["body"].startswith(markdown.MARKER)]
    assert len(ours) == 1
    assert "REGRESSED" in ours[0]["body"]
    assert comment(tmp_path, PULL, "--name", "night")[1] == "commented on pull request 7\n"
    assert comment(tmp_path, PULL, "--name", "night")[1].startswith("updated")


def test_comment_of_a_stranger_with_the_hidden_mark_is_left_alone(
    tmp_path: Path, service: type[Comments]
) -> None:
    checked(tmp_path)
    forged = f"{markdown.MARKER}\npassed"
    service.kept[0] = {"id": 0, "body": forged, "author_association": "NONE",
                       "user": {"login": "x", "type": "User"}}  # fmt: skip
    assert comment(tmp_path, PULL) == (0, "commented on pull request 7\n")
    assert service.kept[0]["body"] == forged
    service.kept[2] |= {"author_association": "NONE", "user": {"type": "Bot"}}
    assert comment(tmp_path, PULL) == (0, "updated the comment on pull request 7\n")
    assert len(service.kept) == 2


def test_fork_is_found_by_its_branch_and_commit(tmp_path: Path, service: type[Comments]) -> None:
    """A workflow_run of a fork names no pull request, and its artifact is not trusted to."""
    checked(tmp_path)
    run = {"head_sha": "abc", "head_branch": "branch",
           "head_repository": {"owner": {"login": "forker"}}}  # fmt: skip
    assert comment(tmp_path, {"workflow_run": run}) == (0, "commented on pull request 7\n")
    code, said = comment(tmp_path, {"workflow_run": {**run, "head_sha": "new"}})
    assert (code, "belongs to no open pull request" in said) == (0, True)


def test_forged_report_of_a_fork_is_shown_as_text_or_refused(
    tmp_path: Path, service: type[Comments]
) -> None:
    checked(tmp_path)
    file = tmp_path / "out" / "check.json"
    told = json.loads(file.read_text())
    told["claims"][0]["metric"] = "<img src=x> @everyone [x](http://evil.example) | y"
    told["candidate"]["name"] = "**bold** <script>"
    (tmp_path / "out" / "check.md").write_text("<script>forged</script>")
    file.write_text(json.dumps(told))
    assert comment(tmp_path, PULL)[0] == 0
    (posted,) = [c["body"] for c in service.kept.values()]
    for mark in ("<img", "<script", " @everyone", "[x](http"):
        assert mark not in posted
    for forged in ({**told, "outcome": "passed"}, {"claims": []}, []):
        file.write_text(json.dumps(forged))
        assert comment(tmp_path, PULL)[0] == 4


def test_refusal_of_the_service_is_a_sentence_without_the_token(
    tmp_path: Path, service: type[Comments], monkeypatch: pytest.MonkeyPatch
) -> None:
    checked(tmp_path)
    monkeypatch.setenv("GITHUB_TOKEN", "ghs_wrong")
    code, said = comment(tmp_path, PULL)
    assert (code, "403" in said, "workflow_run" in said, "ghs_wrong" in said) == (
        2, True, True, False
    )  # fmt: skip
    monkeypatch.delenv("GITHUB_TOKEN")
    assert "are not both set" in comment(tmp_path, PULL)[1]


def test_gitlab_template_runs_the_check(tmp_path: Path) -> None:
    new, base = results(tmp_path)
    job = yaml.safe_load((ROOT / "ci" / "gitlab.yml").read_text())[".harness-check"]
    variables = {**job["variables"], "CANDIDATE": new, "BASELINE": base, "MARGIN": "0.05",
                 "ALLOW": "inconclusive"}  # fmt: skip
    script = "\n".join(job["script"]).replace("python ", f"{sys.executable} ")
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script], cwd=tmp_path, capture_output=True, text=True,
        check=False, env={**os.environ, **variables, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, "REGRESSED" in done.stdout) == (1, True), done.stderr
    report = job["artifacts"]["reports"]["junit"].replace("$REPORT", variables["REPORT"])
    assert (tmp_path / report).is_file()
    assert job["artifacts"]["when"] == "always"
