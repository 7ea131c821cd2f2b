"""Every format is recognised by its content, and read with its scores, directions and gaps."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from harness import importers
from harness.comparison.measured import Measured, Run
from harness.importers import baseline
from harness.importers.files import Unreadable
from harness.importers.records import record_of
from tests.importers import samples
from tests.importers.samples import FILES, RIGHT

SHARE = sum(RIGHT) / len(RIGHT)
ROWS = {"lm-eval samples", "inspect json", "inspect eval", "helm", "lighteval details",
        "lighteval details 2024", "every-eval-ever samples", "promptfoo", "promptfoo 2023",
        "deepeval", "deepeval 2024", "evalsig", "evalsig parquet", "alpaca-eval",
        "csv"}  # fmt: skip


def one(runs: list[Run], metric: str) -> Measured:
    (run,) = runs
    (found,) = [m for m in run.metrics if m.metric == metric]
    return found


@pytest.mark.parametrize("what", FILES)
def test_file_is_recognised_by_its_content_and_read(what: str, tmp_path: Path) -> None:
    tool, make = FILES[what]
    path = make(tmp_path)
    assert tool == importers.recognised(path).NAME
    (run,) = importers.read(path)
    assert (run.source["file"], bool(run.source["sha256"])) == (path.name, True)
    first = run.metrics[0]
    if what in ROWS:
        assert first.examples is not None
        assert (first.n, len(first.examples)) == (8, 8)
        assert {m.metric: m.value for m in run.metrics}.get("accuracy", SHARE) == SHARE
    else:
        assert first.examples is None
        assert math.isfinite(first.value)


def test_scores_are_those_of_the_file(tmp_path: Path) -> None:
    expected = {
        "lm-eval samples": "exact_match", "inspect eval": "match", "helm": "exact_match",
        "lighteval details": "acc", "promptfoo": "pass", "deepeval": "passed",
        "lighteval details 2024": "acc", "promptfoo 2023": "pass", "deepeval 2024": "passed",
        "every-eval-ever samples": "score", "alpaca-eval": "win_rate", "evalsig": "accuracy",
    }  # fmt: skip
    for what, metric in expected.items():
        folder = tmp_path / what
        folder.mkdir()
        assert one(importers.read(FILES[what][1](folder)), metric).value == SHARE, what


def test_older_layouts_tell_what_the_newer_ones_do(tmp_path: Path) -> None:
    """The number of documents, directions and metrics stood at other places."""
    runs = importers.read(samples.lighteval_results_2024(tmp_path))
    accuracy, gap = one(runs, "acc"), one(runs, "gap")
    assert (accuracy.n, accuracy.higher_is_better, gap.higher_is_better) == (8, True, False)
    assert accuracy.conditions["task version"] == "0"
    relevancy = one(importers.read(samples.deepeval_2024(tmp_path)), "Answer Relevancy")
    assert (relevancy.n, relevancy.higher_is_better) == (8, True)
    (run,) = importers.read(samples.promptfoo_2023(tmp_path))
    assert (run.variant, one([run], "pass").unscored) == ("openai:gpt-x", 0)
    file = samples.promptfoo_2023(tmp_path)
    content = json.loads(file.read_text())
    content["results"]["results"][0] |= {"response": {"error": "429"}, "error": "429"}
    assert one(importers.read(samples.document(file, content)), "pass").unscored == 1


def test_an_answer_that_promptfoos_grader_could_not_grade_is_unscored(tmp_path: Path) -> None:
    file = samples.promptfoo(tmp_path)
    content = json.loads(file.read_text())
    grading = content["results"]["results"][0]["gradingResult"]
    grading["componentResults"][0]["metadata"] = {"graderError": True}
    passed = one(importers.read(samples.document(file, content)), "pass")
    assert (passed.n, passed.unscored) == (7, 1)


def test_an_item_of_evalsig_without_a_cluster_stands_alone(tmp_path: Path) -> None:
    frame = samples.evalsig_frame()
    frame["items"][0]["cluster_id"] = None
    (run,) = importers.read(samples.document(tmp_path / "run.json", frame))
    table = run.metrics[0].examples
    assert table is not None
    assert table.clusters is not None
    assert len(set(table.clusters.to_pylist())) == 5


def test_old_result_file_tells_its_number_of_documents_by_its_standard_error(
    tmp_path: Path,
) -> None:
    """piqa of llama-7B in lm-eval's published results: n = 1838."""
    metric = one(importers.read(samples.lm_eval_old(tmp_path)), "acc")
    assert (metric.n, metric.evaluation) == (1838, "piqa")
    assert importers.read(samples.lm_eval_old(tmp_path))[0].variant == "7B"


def test_chat_template_on_one_side_alone_makes_results_incomparable(tmp_path: Path) -> None:
    file = samples.lm_eval_results(tmp_path)
    plain = one(importers.read(file), "exact_match")
    content = json.loads(file.read_text()) | {"chat_template_sha": "abc"}
    chat = one(importers.read(samples.document(file, content)), "exact_match")
    assert chat.why_not(plain) == "not the same chat_template_sha: abc and null"
    assert chat.why_not(plain, prompts=True) == ""
    content["versions"] = {"gsm8k": 2.0}
    assert "task version: 2.0 and 3.0" in one(
        importers.read(samples.document(file, content)), "exact_match"
    ).why_not(plain, prompts=True)


def test_folder_of_lm_eval_has_the_samples_of_its_results(tmp_path: Path) -> None:
    samples.lm_eval_results(tmp_path)
    samples.lm_eval_samples(tmp_path)
    (run,) = importers.read(tmp_path)
    assert run.variant == "some/model"
    metric = one([run], "exact_match")
    assert metric.examples is not None
    assert metric.conditions["task version"] == "3.0"
    assert metric.note == ""
    samples.lm_eval_samples(tmp_path, RIGHT[:4])
    assert "the result file says" in one(importers.read(tmp_path), "exact_match").note


def test_lm_eval_corpus_metrics_are_computed_from_their_sums(tmp_path: Path) -> None:
    rows = [{"doc_id": i, "doc": {}, "target": "", "arguments": [], "resps": [],
             "filtered_resps": [], "metrics": ["word_perplexity", "bits_per_byte"],
             "word_perplexity": [-10.0 * (i + 1), 5], "bits_per_byte": [-10.0 * (i + 1), 40]}
            for i in range(3)]  # fmt: skip
    runs = importers.read(samples.lines(tmp_path / "samples_wikitext.jsonl", rows))
    words, bits = one(runs, "word_perplexity"), one(runs, "bits_per_byte")
    assert words.value == pytest.approx(math.exp(60 / 15))
    assert bits.value == pytest.approx(60 / 120 / math.log(2))
    assert not words.higher_is_better


def test_filters_of_answers_are_metrics_of_their_own(tmp_path: Path) -> None:
    file = samples.lm_eval_samples(tmp_path)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    both = [{**row, "filter": kind} for kind in ("strict-match", "flexible-extract")
            for row in rows]  # fmt: skip
    (run,) = importers.read(samples.lines(file, both))
    assert {m.metric for m in run.metrics} == {
        "exact_match,strict-match", "exact_match,flexible-extract"
    }  # fmt: skip


def test_log_packed_with_zstandard_is_read_as_inspect_writes_it_now(tmp_path: Path) -> None:
    """Inspect packs its logs with zstandard, which Python's zipfile knows from 3.14 on."""
    plain = samples.inspect_eval(tmp_path, method=zipfile.ZIP_STORED)
    packed = zstandard_zip(plain, tmp_path / "zstd.eval")
    assert one(importers.read(packed), "match").value == SHARE
    data = bytearray(packed.read_bytes())
    data[data.index(b"\x28\xb5\x2f\xfd") + 30] ^= 0xFF
    packed.write_bytes(bytes(data))
    with pytest.raises(Unreadable, match="damaged"):
        importers.read(packed)


def zstandard_zip(plain: Path, target: Path) -> Path:
    """The archive with its summaries and header packed by method 93."""
    import struct
    import zlib

    body, directory = b"", b""
    with zipfile.ZipFile(plain) as archive:
        contents = {n: archive.read(n) for n in ("summaries.json", "header.json")}
    for name, content in contents.items():
        raw = pa.compress(content, "zstd", asbytes=True)
        shared = struct.pack("<HHHHHIIIHH", 63, 0, 93, 0, 0x21, zlib.crc32(content), len(raw),
                             len(content), len(name), 0)  # fmt: skip
        directory += (b"PK\x01\x02" + struct.pack("<H", 63) + shared
                      + struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + name.encode())  # fmt: skip
        body += b"PK\x03\x04" + shared + name.encode() + raw
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 2, 2, len(directory), len(body), 0)
    target.write_bytes(body + directory + end)
    return target


def test_epochs_are_answers_whose_mean_is_the_score(tmp_path: Path) -> None:
    log = samples.inspect_log()
    log["samples"] += [{**s, "epoch": 2, "scores": {"match": {"value": "I"}}}
                       for s in log["samples"]]  # fmt: skip
    metric = one(importers.read(samples.document(tmp_path / "log.json", log)), "match")
    assert (metric.value, metric.n) == (SHARE / 2, 8)
    assert metric.note == "mean over 2 answers each"


def test_what_was_not_scored_is_counted_and_not_taken_as_wrong(tmp_path: Path) -> None:
    log = samples.inspect_log()
    log["samples"][0]["scores"]["match"]["value"] = float("nan")
    metric = one(importers.read(samples.document(tmp_path / "log.json", log)), "match")
    assert (metric.n, metric.unscored, metric.value) == (7, 1, 4 / 7)
    content = json.loads(samples.promptfoo(tmp_path).read_text())
    content["results"]["results"][0] |= {"failureReason": 2, "error": "429", "success": False}
    metric = one(importers.read(samples.document(tmp_path / "p.json", content)), "pass")
    assert (metric.n, metric.unscored) == (7, 1)


def test_directions_are_taken_from_what_the_tool_tells(tmp_path: Path) -> None:
    (run,) = importers.read(samples.deepeval(tmp_path))
    assert {m.metric: m.higher_is_better for m in run.metrics} == {
        "passed": True, "Answer Relevancy": True, "Bias": False
    }  # fmt: skip


def test_perturbed_rows_and_bookkeeping_of_helm_are_left_out(tmp_path: Path) -> None:
    (run,) = importers.read(samples.helm(tmp_path, more=True))
    assert [m.metric for m in run.metrics] == ["exact_match"]
    assert run.metrics[0].evaluation == "mmlu:subject=philosophy"
    assert run.metrics[0].examples is not None
    assert run.metrics[0].examples.prompts is not None


def test_table_has_variants_seeds_clusters_and_evaluations(tmp_path: Path) -> None:
    file = tmp_path / "all.tsv"
    rows = [f"e{i}\t{v}\t{s}\t{e}\t{0.5 if v == 'a' else ''}\t{i * 1.5}" for v in ("a", "b")
            for s in (0, 1) for e in ("x", "y") for i in range(3)]  # fmt: skip
    file.write_text("\n".join(["example_id\tvariant\tseed\tevaluation\tf1\tloss", *rows]))
    runs = importers.read(file)
    assert [(r.variant, r.seed) for r in runs] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert {m.name for m in runs[0].metrics} == {"f1/x", "loss/x", "f1/y", "loss/y"}
    assert {m.metric for m in runs[2].metrics} == {"loss"}
    assert not runs[2].metrics[0].higher_is_better


def test_record_and_baseline_of_a_run_hold_what_was_read(tmp_path: Path) -> None:
    for what, (_, make) in FILES.items():
        folder = tmp_path / what
        folder.mkdir()
        runs = importers.read(make(folder))
        file = folder / "baseline.json"
        file.write_text(baseline.text_of("main", runs, "1"))
        (again,) = importers.read(file)
        assert again.variant == runs[0].variant
        for metric, copy in zip(runs[0].metrics, again.metrics, strict=True):
            assert (copy.name, copy.value, copy.n) == (metric.name, metric.value, metric.n)
            assert copy.higher_is_better == metric.higher_is_better
            assert copy.why_not(metric) == ""
            assert (copy.examples is None) == (metric.examples is None)
        lines = [record_of(run).model_dump_json() for run in runs]
        (folder / "records.jsonl").write_text("\n".join(lines))
        (short,) = importers.read(folder / "records.jsonl")
        assert [m.value for m in short.metrics] == [m.value for m in runs[0].metrics]


def test_unknown_file_is_answered_with_what_was_tried(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(Unreadable, match="is of no format that is known") as caught:
        importers.read(tmp_path / "a.txt")
    assert "lm-eval (lm-evaluation-harness" in str(caught.value)
    assert caught.value.exit_code == 4


@pytest.mark.real
def test_published_files_are_read(real_data: Path) -> None:
    results = real_data / "results"
    (run,) = importers.read(results / "lm_eval" / "llama-7B_common_sense_reasoning_0-shot.json")
    piqa = next(m for m in run.metrics if m.name == "acc/piqa")
    assert (round(piqa.value, 4), piqa.n) == (0.7818, 1838)
    (log,) = sorted((results / "inspect").glob("*mj7kh*.eval"))
    assert one(importers.read(log), "match").value == 0.8
    (log,) = sorted((results / "inspect").glob("*.json"))
    assert one(importers.read(log), "model_graded_fact").value == 1.0
    (log,) = sorted((results / "inspect").glob("*dPiJ*.eval"))
    with pytest.raises(Unreadable, match="no sample has a score"):
        importers.read(log)
    folder = results / "alpaca_eval_2"
    (run,) = importers.read(folder / "results" / "alpaca-7b" / "annotations.json.gz")
    assert 100 * run.metrics[0].value == pytest.approx(2.5915, abs=1e-3)
    assert len(importers.read(results / "peft_metamathqa")) == 17
