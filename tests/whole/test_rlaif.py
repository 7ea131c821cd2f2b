"""RLAIF: what is planned and shared, what labels say, and whether they agree with the truth."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.commands import report as reports
from harness.commands.list import members
from harness.commands.plan import describe_plan
from harness.comparison.provenance import notes
from harness.core.errors import ModelError, StageFailed, SuiteError
from harness.core.locate import package_suites
from harness.core.registry import name_of
from harness.data.pairs import pairs_of
from harness.data.preference_rule import digest_rule, load_rule
from harness.labellers._asking import LETTERS, Asking
from harness.labellers.base import Contest, LabelJob, Labeller, Question, Reply
from harness.stages._labels import agreement, outcome_of, ranked_rows, usable
from harness.stages.base import Job, StageKind, member_of
from harness.stages.check import Check
from harness.stages.data import read_rows
from harness.stages.label import Label, LabelOptions
from harness.stages.truth import Truth
from harness.store.stage import Record, Stage, write_record
from tests.conftest import DPO, PPO, REWARD, SFT, Workspace, preferences, write_jsonl

RLAIF = {"data": "preferences", "max_new_tokens": 6, "samples": 3, "unfinished": "keep"}
AT = {"model": "m", "base_url": "http://localhost:1/v1"}
TRUTH = '''
from .letters import wanted

def longer(row, one, other):
    """Of two answers the longer one is better."""
    assert row["prompt"][0]["content"].endswith(wanted)
    return (len(one) > len(other)) - (len(one) < len(other))
'''


@pytest.fixture
def fed(aligned: Workspace) -> Workspace:
    """The tiny suite with one method, sft and rlaif, and a truth of its own."""
    (aligned.folder / "truth.py").write_text(TRUTH)
    (aligned.folder / "letters.py").write_text("wanted = '?'\n")
    aligned.tree["matrix"] = {"data": ["letters"], "method": [{"lora": {"r": 4}}]}
    end_in(aligned, "ppo")
    return aligned


def end_in(workspace: Workspace, *ends: str, **fields: Any) -> None:
    """sft and rlaif, whose last stage is the first of `ends`, with settings for all of them."""
    rlaif = {**RLAIF, "truth": "truth.py:longer", "then": ends[0], **fields}
    workspace.tree["matrix"]["objective"] = [{"sft": SFT}, {"rlaif": rlaif}]
    last = {"ppo": PPO, "dpo": {k: v for k, v in DPO.items() if k != "data"}}
    own = {f"{end}.{name}": v for end in ends if end in last for name, v in last[end].items()}
    workspace.tree["overrides"] = [{"set": own}] if own else []


def stages(workspace: Workspace, *settings: str) -> dict[str, list[Stage]]:
    """Kind, or objective of a training stage -> its stages in the plan."""
    found: dict[str, list[Stage]] = {}
    for stage in workspace.open(*settings).plan.stages():
        name = stage.config["objective"]["name"] if stage.kind == "train" else stage.kind
        found.setdefault(name, []).append(stage)
    return found


# --- what is planned and shared ------------------------------------------------------------------


def test_the_recipe_is_sft_sample_label_reward_ppo(fed: Workspace) -> None:
    end_in(fed, "ppo")
    found = stages(fed)
    (sample,), (label,), (ppo,) = found["sample"], found["label"], found["ppo"]
    own, fresh = found["reward"]  # the labeller's, on the suite's pairs; then that of the labels
    assert (own.inputs["train"].kind, fresh.inputs["train"].key) == ("data", label.key)
    assert label.inputs["reward"].key == own.key
    assert label.inputs["samples"].key == sample.key
    assert sample.inputs["checkpoint"].key == ppo.inputs["start"].key == found["sft"][0].key
    assert ppo.inputs["reward"].key == fresh.key
    assert ppo.inputs["train"].label == "preferences/train"
    assert ppo.label == "lora-rlaif"


def test_cells_that_differ_in_ppo_alone_share_all_before_it(fed: Workspace) -> None:
    end_in(fed, "ppo")
    found = stages(fed, "overrides=[]", "matrix.ppo.kl_coef=[0.1,0.2]", "seeds=[0]")
    counts = {name: len(found[name]) for name in ("sft", "sample", "label", "reward", "ppo")}
    assert counts == {"sft": 1, "sample": 1, "label": 1, "reward": 2, "ppo": 2}
    assert {s.label for s in found["ppo"]} == {"lora-rlaif-kl_coef=0.1", "lora-rlaif-kl_coef=0.2"}


def test_what_labels_are_for_changes_no_label(fed: Workspace) -> None:
    end_in(fed, "ppo", "dpo")
    found = stages(fed, "matrix.rlaif.then=[ppo,dpo]")
    assert [len(found[name]) for name in ("sample", "label", "ppo", "dpo")] == [1, 1, 1, 1]
    (dpo,), (label,) = found["dpo"], found["label"]
    reference = dpo.inputs["reference"]
    assert dict(dpo.inputs) == {"train": label, "start": found["sft"][0], "reference": reference}
    twice = stages(fed, "matrix.rlaif.samples=[2,3]", "matrix.rlaif.then=[dpo]", "overrides=[]")
    assert [len(twice[name]) for name in ("sft", "sample", "label", "dpo")] == [1, 2, 2, 2]


def test_labels_may_train_dpo_from_a_policy_that_ppo_trained(fed: Workspace) -> None:
    """The reward model of the ppo before is trained on the suite's pairs, not on the labels."""
    end_in(fed, "dpo", start="ppo")
    found = stages(fed)
    (dpo,), (label,), (ppo,) = found["dpo"], found["label"], found["ppo"]
    assert (dpo.inputs["train"], dpo.inputs["start"]) == (label, ppo)
    assert label.inputs["samples"].inputs["checkpoint"] == ppo
    assert {stage.inputs["train"].kind for stage in found["reward"]} == {"data"}


def test_labellers_may_be_an_axis(fed: Workspace) -> None:
    axis = "matrix.rlaif.labeller=[longest, {judge: {model: tiny}}]"
    end_in(fed, "dpo")
    fed.tree.pop("reward_model")
    found = stages(fed, axis)
    assert [stage.label for stage in found["label"]] == ["lora-sft by longest", "lora-sft by judge"]
    assert len(found["sample"]) == 1
    names = {"lora-rlaif-labeller=longest", "lora-rlaif-labeller=judge(model=tiny)"}
    assert {stage.label for stage in found["dpo"]} == names


def test_each_seed_labels_the_answers_of_its_own_policy(fed: Workspace) -> None:
    found = stages(fed, "seeds=[0,1]")
    assert [len(found[name]) for name in ("sft", "sample", "label", "ppo")] == [2, 2, 2, 2]
    assert [s.config["sample"]["seed"] for s in found["sample"]] == [0, 1]
    assert len({label.inputs["reward"].key for label in found["label"]}) == 1


def test_rlaif_beside_ppo_leaves_its_stages_as_they_are(fed: Workspace) -> None:
    ppo = {"ppo": {**PPO, "data": "preferences"}}
    fed.tree["overrides"] = []
    fed.tree["matrix"]["objective"] = [{"sft": SFT}, ppo]
    alone = {stage.key for stage in stages(fed)["ppo"] + stages(fed)["reward"]}
    fed.tree["matrix"]["objective"] = [{"sft": SFT}, ppo, {"rlaif": RLAIF}]
    both = stages(fed)
    assert alone < {stage.key for stage in both["ppo"] + both["reward"]}
    # One is written down; the other takes its fields, but not its rows.
    assert {s.config["objective"]["max_new_tokens"] for s in both["ppo"]} == {4}


def test_how_an_endpoint_is_reached_is_no_part_of_its_labels(fed: Workspace) -> None:
    def label(**fields: Any) -> str:
        given = {"base_url": "http://localhost:1/v1", "model": "m", **fields}
        end_in(fed, "dpo", labeller={"endpoint": given})
        fed.tree.pop("reward_model", None)
        return stages(fed)["label"][0].key

    assert label(api_key_env="KEY", concurrency=9, timeout=1.0) == label()
    assert len({label(max_tokens=tokens) for tokens in (3, 16, None)}) == 3


@pytest.mark.parametrize("labeller", ["judge", "reward"])
def test_a_labellers_batches_are_part_of_its_labels(fed: Workspace, labeller: str) -> None:
    def label(**fields: Any) -> str:
        end_in(fed, "ppo", labeller={labeller: fields})
        return stages(fed)["label"][0].key

    assert label(batch_tokens=77) != label()


def test_tuning_ppo_samples_and_labels_once(fed: Workspace) -> None:
    fed.tree["data"]["letters"]["validation"] = {"path": "train.jsonl", "rows": [0, 8]}
    space = {"ppo.kl_coef": [0.1, 0.2]}
    fed.tree["matrix"]["objective"] = [fed.tree["matrix"]["objective"][1]]
    fed.write(tune={"metric": "exact_match", "trials": 2, "space": space})
    found = stages(fed)
    assert [len(found[name]) for name in ("sample", "label", "reward", "ppo")] == [1, 1, 2, 2]
    fed.write(tune={"metric": "exact_match", "trials": 2, "space": {"rlaif.samples": [2, 3]}})
    with pytest.raises(SuiteError, match="unknown component 'rlaif'"):
        fed.open()


def test_prompts_are_checked_for_copies_of_test_rows(fed: Workspace) -> None:
    end_in(fed, "dpo")
    pairs = {stage.label for stage in fed.open().plan.contamination}
    assert "preferences/train in letters/test" in pairs


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"samples": 1}, "greater than or equal to 2"),
        ({"labeller": "jugde"}, "did you mean 'judge'?"),
        ({"labeller": {"judge": {"model": "tin"}}}, "did you mean 'tiny'?"),
        ({"labeller": {"judge": {"prompt": "{{ a }} or b?"}}}, r"needs {{ b }}, or the judge"),
        ({"labeller": {"endpoint": {"model": "m"}}}, "base_url: missing"),
        (
            {"labeller": {"endpoint": {"model": "m", "base_url": "http://a:b@c/v1"}}},
            "written to disk",
        ),
        ({"labeller": {"endpoint": {"model": "m", "base_url": "ftp://c"}}}, "is an address"),
        ({"labeller": {"endpoint": {**AT, "api_key_env": "sk-pasted"}}}, "is not shown here"),
        ({"labeller": {"endpoint": {**AT, "args": {"Api_Key": "sk-pasted"}}}}, "with api_key_env"),
        ({"start": "base"}, "a policy that was trained"),
        ({"start": "sfft"}, "did you mean 'sft'?"),
        ({"data": "preference"}, "did you mean 'preferences'?"),
        ({"then": "sft"}, "known: dpo, ppo"),
        ({"truth": "truth.py"}, "truth"),
        ({"truth": "nowhere.py:longer"}, "there is no file 'nowhere.py'"),
    ],
)
def test_what_cannot_be_planned_says_why(fed: Workspace, fields: dict[str, Any], said: str) -> None:
    end_in(fed, fields.pop("then", "ppo"), **fields)
    with pytest.raises(SuiteError) as caught:
        fed.open()
    assert said in str(caught.value)
    assert "pasted" not in str(caught.value)


def test_a_served_model_is_no_local_judge(fed: Workspace) -> None:
    fed.tree["models"]["big"] = {"endpoint": AT}
    end_in(fed, "dpo", labeller={"judge": {"model": "big"}})
    fed.tree.pop("reward_model", None)
    with pytest.raises(ModelError, match="'big' cannot be used as the labeller judge: it is serve"):
        fed.open()


def test_a_reward_model_that_no_labeller_needs_is_an_error(fed: Workspace) -> None:
    end_in(fed, "dpo", labeller="judge")
    with pytest.raises(SuiteError, match="no objective of the matrix needs a reward model"):
        fed.open()


def test_page_tells_rows_recipe_and_paper() -> None:
    page = members("objective", "rlaif")
    assert "recipe: base -> sft -> sample -> label -> reward -> ppo\n" in page
    assert "paper: arXiv:2309.00267" in page
    assert "never written to disk" in members("labeller", "endpoint")


# --- what labels say -----------------------------------------------------------------------------

outcomes = st.integers(2, 5).flatmap(
    lambda n: st.fixed_dictionaries(
        {pair: st.sampled_from([-1, 0, 1, None]) for pair in itertools.combinations(range(n), 2)}
    )
)


@given(outcomes)
def test_rows_say_of_each_pair_what_the_labeller_said(
    given: dict[tuple[int, int], int | None],
) -> None:
    count = 1 + max(j for _, j in given)
    answers = [chr(97 + i) for i in range(count)]
    row = {"id": "x", "cluster": "x", "group": "", "prompt": "p"}
    rows = ranked_rows(row, answers, given)
    wanted = Counter(
        (answers[i], answers[j]) if better > 0 else (answers[j], answers[i])
        for (i, j), better in given.items()
        if better
    )
    found = pairs_of(rows, "error")[0] if rows else []
    assert Counter((pair.chosen, pair.rejected) for pair in found) == wanted


def test_a_ranking_with_ties_is_one_row() -> None:
    row = {"id": "x", "cluster": "x", "group": "", "prompt": "p"}
    (made,) = ranked_rows(row, ["a", "b", "c"], {(0, 1): 0, (0, 2): 1, (1, 2): 1})
    assert (made["id"], made["ranks"], made["references"]) == ("x", [1, 1, 2], ["a", "b"])


def test_answers_left_out_are_counted_by_reason() -> None:
    dropped: Counter[str] = Counter()
    given = [("yes", "eos"), (" ", "eos"), ("yes", "eos"), ("long", "length"), ("no", "eos")]
    answers = [{"text": text, "finish": finish} for text, finish in given]
    assert usable(answers, "drop", dropped) == ["yes", "no"]
    assert dropped == {"empty": 1, "equal to another": 1, "cut at max_new_tokens": 1}
    assert usable(answers, "keep", Counter()) == ["yes", "long", "no"]


def test_agreement_is_that_of_a_hand_made_case() -> None:
    """8 of 10 with Wilson's interval as in Wilson (1927); ties and unknown pairs beside."""
    pairs = [(1, 1)] * 5 + [(-1, -1)] * 3 + [(1, -1)] * 2 + [(0, 1), (1, 0), (None, 1), (0, 0)]
    found = agreement(pairs)
    assert found is not None
    z, p, n = 1.959964, 0.8, 10
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert found == pytest.approx(
        {"share": 0.8, "low": middle - half, "high": middle + half, "n": 10, "tied_by_label": 1,
         "tied_by_truth": 1, "unknown": 1}, abs=1e-6,
    )  # fmt: skip
    assert agreement([(0, 1), (None, None)]) is None


SAID = {
    "x": ["aaa", "a", "aaa", " ", "bbb"],  # equal ones and an empty one; aaa and bbb tie
    "y": ["c", "why?", "cc"],  # of the second nobody has an opinion
    "z": ["dd", "ee"],  # no answer is better
    "w": ["", ""],
}


def label_job(folder: Path) -> Job:
    """A label stage by the toy labeller, over answers as they stand in SAID."""
    rows = preferences(4)
    ids = zip(rows, SAID, strict=True)
    asked = [
        {"id": name, "cluster": name, "group": "", "prompt": row["prompt"]} for row, name in ids
    ]
    finish = {"finish": "eos", "tokens": 1}
    answers = [[{"text": text, **finish} for text in texts] for texts in SAID.values()]
    lines = [{**row, "answers": own} for row, own in zip(asked, answers, strict=True)]
    (folder / "sample" / SAMPLE[:24]).mkdir(parents=True)
    write_jsonl(folder / "sample" / SAMPLE[:24] / "samples.jsonl", lines)
    label = Label(device="cpu", labeller=longest(), label=LabelOptions(unfinished="drop", tie=0.0))
    return job_of(folder, label, {"samples": ("sample", SAMPLE)})


def longest() -> Labeller:
    labeller: Labeller = member_of("labeller", {"name": "longest"})
    return labeller


SAMPLE, LABEL = "5" * 64, "7" * 64


def job_of(folder: Path, asked: StageKind, inputs: dict[str, tuple[str, str]]) -> Job:
    kind = name_of(type(asked))
    spec = {
        "kind": kind, "key": LABEL, "label": "l", "config": asked.identity(), "resources": {},
        "inputs": {role: {"kind": kind, "key": key} for role, (kind, key) in inputs.items()},
        "unhashed": asked.unhashed(),
    }  # fmt: skip
    own = folder / kind / LABEL[:24]
    own.mkdir(parents=True)
    (own / "stage.json").write_text(json.dumps(spec))
    return Job(own, lambda _: None)


def ran(job: Job) -> dict[str, Any]:
    """The metrics of its stage."""
    metrics: dict[str, Any] = job.config.run(job)
    return metrics


def check_jobs(folder: Path) -> tuple[Job, Job]:
    """The stages that hold the labels of `label_job` against a truth, and against three rows."""
    data = folder / "data" / ("6" * 24)
    data.mkdir(parents=True)
    write_jsonl(data / "rows.jsonl", preferences(4))
    labelled = label_job(folder)
    made = ran(labelled)
    config = labelled.config.identity()
    record = Record(key=LABEL, kind="label", status="ok", config=config, metrics=made)
    write_record(labelled.folder, record)
    truth = folder / "truth.py"
    truth.write_text(TRUTH.replace("wanted)", "wanted) and row['id'] in 'xyzw'"))
    (folder / "letters.py").write_text("wanted = '?'\n")
    identity = {"sha256": digest_rule(truth), "function": "longer"}
    inputs = {"labels": ("label", LABEL), "samples": ("sample", SAMPLE)}
    known = Truth(truth=identity, file=str(truth))
    check = Check(device="cpu", labeller=longest(), tie=0.0, check=3, seen=False)
    rows = {"data": ("data", "6" * 64)}
    return job_of(folder, known, inputs), job_of(folder, check, rows)


def test_what_a_label_stage_leaves_out_is_counted(tmp_path: Path) -> None:
    found = ran(label_job(tmp_path))
    assert found["answers_dropped"] == {"equal to another": 1, "empty": 3}
    assert found["dropped"] == {"no answer is better": 1, "fewer than two answers": 1}
    assert found["unlabelled"] == {"a question": 2}
    assert (found["pairs"], found["ties"], found["rows"]) == (3 + 1 + 1, 2, 2)
    rows = read_rows(tmp_path / "label" / LABEL[:24])
    assert [(row["id"], row["ranks"]) for row in rows] == [("x", [1, 2, 1]), ("y/0-2", [2, 1])]
    assert [answer[-1]["content"] for answer in rows[1]["responses"]] == ["c", "cc"]


def test_labels_are_held_against_the_truth_and_the_rows(tmp_path: Path) -> None:
    by_truth, by_rows = check_jobs(tmp_path)
    # The toy labeller and the toy truth say the same: both prefer an answer in three pairs.
    found = ran(by_truth)["agreement"]["truth"]
    assert (found["share"], found["n"], found["unknown"]) == (1.0, 3, 2)
    checked = ran(by_rows)["agreement"]["rows"]
    assert checked["n"] + checked["tied_by_label"] == 3


def test_labeller_has_seen_the_rows_that_a_mixture_brought_it(fed: Workspace) -> None:
    write_jsonl(fed.folder / "more.jsonl", preferences(5))
    mixed = {"train": {"mixture": {"more": 1, "preferences": 1}}}
    fed.tree["data"] |= {"more": {"train": "more.jsonl"}, "mixed": mixed}
    seen = {}
    for name in ("preferences", "mixed", "more"):
        fed.tree["reward_model"] = {**fed.tree["reward_model"], "data": name}
        (checked,) = stages(fed)["check"]
        assert checked.inputs["data"].label == "preferences/train"
        seen[name] = checked.config["seen"]
    assert seen == {"preferences": True, "mixed": True, "more": False}


def test_what_is_known_of_answers_labels_nothing_again(fed: Workspace) -> None:
    fed.tree.pop("reward_model")
    end_in(fed, "dpo", labeller="longest", truth=None, check=0)
    before = stages(fed)
    assert "truth" not in before
    assert "check" not in before
    end_in(fed, "dpo", labeller="longest")
    fed.tree["data"]["preferences"]["validation"] = "preferences.jsonl"
    after = stages(fed, "seeds=[0,1]")
    assert before["label"][0] in after["label"]
    assert before["dpo"][0] in after["dpo"]
    assert [s.inputs["labels"] for s in after["truth"]] == after["label"]
    (checked,) = after["check"]  # a labeller of all seeds is checked once
    assert checked.inputs["data"].label == "preferences/validation"
    (fed.folder / "truth.py").write_text(TRUTH + "# mended\n")
    again = stages(fed, "seeds=[0,1]")
    assert again["label"] == after["label"]
    assert again["truth"] != after["truth"]


def test_a_truth_is_the_file_that_was_planned(tmp_path: Path) -> None:
    job, _ = check_jobs(tmp_path)
    truth = tmp_path / "truth.py"
    truth.write_text(truth.read_text() + "# changed\n")
    with pytest.raises(StageFailed, match="has changed since it was planned"):
        ran(job)
    with pytest.raises(StageFailed, match="has no function 'nothing'"):
        load_rule(truth, {"sha256": digest_rule(truth), "function": "nothing"})
    truth.write_text("from .nowhere import x\n")
    with pytest.raises(StageFailed, match="cannot be imported: ModuleNotFoundError"):
        load_rule(truth, {"sha256": digest_rule(truth), "function": "longer"})


def test_the_pocket_worlds_truth_is_found_by_a_rows_id() -> None:
    truth = package_suites() / "pocket" / "truth.py"
    better = load_rule(truth, {"sha256": digest_rule(truth), "function": "better"})
    rows = [json.loads(line) for line in
            (truth.parent / "preference" / "train.jsonl").read_text().splitlines()]  # fmt: skip
    said = [better(row, row["chosen"][0]["content"], row["rejected"][0]["content"])
            for row in rows]  # fmt: skip
    assert set(said) == {1}
    assert better({"id": "of another world"}, "a", "b") is None


CONTEST = Contest("q", "one", "other")
BARE = "{{ question }} {{ a }} {{ b }}"
"""A prompt that tiny contexts have room for."""


class Saying(Asking):
    """A judge that says A with these probabilities, question by question."""

    name = "saying"
    says: list[float]

    def __init__(self, says: list[float]) -> None:
        super().__init__(says=says)  # type: ignore[call-arg]

    def reply(self, job: LabelJob, questions: Sequence[Question]) -> list[Reply]:
        return [{"A": p, "B": 1 - p} for p in self.says]


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_liking_for_a_place_cancels(bias: float, better: float) -> None:
    """A judge whose log-odds are content plus a liking for the first place, however strong."""
    job = LabelJob([CONTEST], lambda *_: None, Path())
    places = [1 / (1 + math.exp(-(sign * better + bias))) for sign in (1, -1)]
    (found,) = Saying(places).label(job)
    assert isinstance(found, float)
    if abs(better) > 1e-6:
        assert outcome_of(found, 0.0) == (1 if better > 0 else -1)
    (plain,) = Saying([1 / (1 + math.exp(-bias))] * 2).label(job)
    assert outcome_of(plain, 0.0) == 0
    assert job.figures["first_place_preferred"] == pytest.approx(1 / (1 + math.exp(-bias)))


def test_a_local_judge_reads_a_against_b(tiny_model: Path) -> None:
    """Its verdict is the softmax over the letters of the model's own next-token logits, half of
    that of a tie for each answer."""
    import torch

    from harness.labellers.judge import Judge
    from harness.models.files import ModelRef

    ref = ModelRef(str(tiny_model), "float32", "cpu")
    model, tokenizer = ref.load("lm"), ref.tokenizer()
    judge = Judge(prompt=BARE)
    contests = [Contest("q", "aa", "b"), Contest("q", "x" * 300, "b"), Contest("q", "b", "aa")]
    for template in (tokenizer.chat_template, None):
        tokenizer.chat_template = template
        job = LabelJob(contests, lambda *_: None, Path(), model, tokenizer)
        found = judge.label(job)

        def first(one: str, other: str, chat: bool = template is not None) -> float:
            text = f"q {one} {other}"
            asked = f"<|user|>{text}<|assistant|>" if chat else f"{text} "
            letters = [tokenizer.convert_tokens_to_ids(letter) for letter in LETTERS]
            ids = torch.tensor([tokenizer(text=asked)["input_ids"]])
            with torch.no_grad():
                logits = model(input_ids=ids).logits[0, -1]
            likely = logits[letters].softmax(-1)
            return float(likely[0] + likely[2] / 2)

        wanted = (first("aa", "b") + 1 - first("b", "aa")) / 2
        assert found[0] == pytest.approx(wanted, abs=1e-5)
        assert found[2] == pytest.approx(1 - wanted, abs=1e-5)
        assert found[1] == "too long for the labeller's context"


# --- end to end ----------------------------------------------------------------------------------


def test_labels_of_a_reward_model_train_dpo_and_agree_as_recorded(fed: Workspace) -> None:
    fed.tree["data"]["preferences"]["validation"] = "held.jsonl"
    write_jsonl(fed.folder / "held.jsonl", preferences(6))
    end_in(fed, "dpo")
    outcome = fed.run()
    assert not {r.label: (r.error or {}).get("message") for r in outcome.failed}
    records = {(r.kind, r.label): r for r in outcome.records.values()}
    label = records["label", "lora-sft by reward"]
    folder = fed.store / "label" / label.key[:24]
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert label.metrics["layout"] == "ranked"
    assert label.metrics["rows"] == len(rows)
    assert all(len(row["responses"]) == len(row["ranks"]) >= 2 for row in rows)
    # The recorded agreement is that of the written verdicts with the truth of the suite's file.
    lines = [json.loads(line) for line in (folder / "verdicts.jsonl").read_text().splitlines()]
    told = [(line["verdict"] > 0.5, len(line["one"]) > len(line["other"])) for line in lines
            if line["verdict"] != 0.5 and len(line["one"]) != len(line["other"])]  # fmt: skip
    truth = records["truth", "lora-sft by reward"]
    found = truth.metrics["agreement"]["truth"]
    assert (found["n"], found["share"]) == (
        len(told), pytest.approx(sum(a == b for a, b in told) / len(told)),
    )  # fmt: skip
    checked = records["check", "preferences/validation by reward"].metrics["agreement"]["rows"]
    assert (checked["n"] + checked["tied_by_label"], checked["seen"]) == (6, False)
    assert f"agree with the truth on {found['share']:.0%}" in Truth.headline(truth)
    for kind in ("sample", "label"):
        expected = next(r for (k, _), r in records.items() if k == kind).cost["predicted"]
        assert min(expected["flops"], expected["state_bytes"]) > 0
    trained = records["train", "lora-rlaif"]
    assert trained.metrics["first_loss"] == pytest.approx(math.log(2), abs=1e-6)
    opened = fed.open()
    said = [
        note
        for note in notes(opened.plan, reports.stored(opened), (), opened.store)
        if "AI labels" in note
    ]
    assert len(said) == 1
    assert f"on {found['share']:.1%} of {found['n']} pairs" in said[0]
    assert "lora-rlaif goes on from lora-sft by reward (train)" in describe_plan(opened, why=False)
    assert fed.run().ran == []


def test_a_missing_key_fails_its_stage_alone(
    fed: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    given = {"base_url": "http://127.0.0.1:9/v1", "model": "m", "api_key_env": "NO_SUCH_KEY"}
    end_in(fed, "dpo", labeller={"endpoint": given})
    fed.tree.pop("reward_model")
    outcome = fed.run()
    told = {(r.kind, r.label): (r.error or {}).get("message", "") for r in outcome.failed}
    assert "variable NO_SUCH_KEY, which should" in told["label", "lora-sft by endpoint"]
    assert told["train", "lora-rlaif"].startswith("not run, as its input")
    assert {r.label for r in outcome.records.values() if r.kind == "train" and r.ok} == {"lora-sft"}


@pytest.mark.slow
def test_labels_train_a_reward_model_that_ppo_follows(fed: Workspace) -> None:
    end_in(fed, "ppo", labeller={"judge": {"prompt": BARE}})
    fed.write(reward_model={**REWARD, "data": "letters"})
    outcome = fed.run()
    assert not {r.label: (r.error or {}).get("message") for r in outcome.failed}
    (reward,) = [r for r in outcome.records.values()
                 if r.kind == "train" and r.config["objective"]["name"] == "reward"]  # fmt: skip
    (label,) = [r for r in outcome.records.values() if r.kind == "label"]
    assert reward.inputs["train"] == label.key
    assert 0 <= label.metrics["labeller"]["same_in_both_orders"] <= 1
