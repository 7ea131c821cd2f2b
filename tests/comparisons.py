"""Comparisons made up for the tests of the report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.comparison import Comparison, Row, VariantResult
from harness.comparison.result import Estimate, Example, Measured, Tax

SECRET = "The lighthouse keeper counted seven gulls"
HOSTILE = {
    "script": "<script>document.title='owned'</script>",
    "close": "</script><script>document.title='owned'</script><!--",
    "image": "<img src=x onerror=\"document.title='owned'\">",
    "template": "{{7*7}}{% raw %}${7*7}",
    "formula": '=HYPERLINK("http://evil.example","x")',
    "override": "abc\u202edcba\u2066",
    "invisible": "ze\u200bro\u200d wid\ufeffth",
    "table": "a | b\n| c | `d` [x](http://evil.example) <b>",
    "separators": "a\u2028b\u2029c\x00d\x1b[31m",
    "surrogate": "lone \ud800",
    "long": "x" * 5000,
}


def hostile_texts(count: int = 200) -> list[str]:
    """So many different texts that try to run, to hide, to break the layout or to be huge."""
    payload = "document.title='owned'"
    loading = ("img", "video", "audio", "script", "input")
    closing = ("'", '"', "`", "</title>", "</style>", "</textarea>", "-->", "]]>")
    templates = (("{{", "}}"), ("{%", "%}"), ("${", "}"), ("<%=", "%>"), ("#{", "}"), ("[[", "]]"))
    codes = "202A 202B 202D 202E 2066 2067 2068 200B 200C 200D 200E 200F 2060 FEFF AD 0 7 8 1B 7F"
    made = [
        *HOSTILE.values(),
        *(f"<{tag} src=x onerror={payload}>" for tag in loading),
        *(f"<{tag} onload={payload}>" for tag in ("svg", "body", "iframe", "style", "link")),
        *(f'<a href="{scheme}:{payload}">x</a>' for scheme in ("javascript", "JaVaScRiPt", "data")),
        *(f"{quote}><script>{payload}</script>" for quote in closing),
        *(f"{mark}7*7{close}" for mark, close in templates),
        *(f"{start}cmd|' /C calc'!A0" for start in ("=", "+", "-", "@", "\t=", "\r=", "\n=", "%=")),
        *(f"left{chr(int(code, 16))}right" for code in f"{codes} 85 2028 2029".split()),
        "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 " * 20,
        "\u05e2\u05d1\u05e8\u05d9\u05ea " * 20,
        "Z\u0351\u036b\u0343\u036a" * 300,
        "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 50,
        "\ufdfd" * 80, "$\\frac{1}{0}$", "\\input{/etc/passwd}", "%00", "null", "undefined", "NaN",
        "__proto__", "constructor", "toString", "", " ", "\n" * 400, "\t" * 400, "W" * 20_000,
    ]  # fmt: skip
    made = list(dict.fromkeys(made))
    # The rest: each of the first kinds within a sentence, so that no two are alike.
    made += [f"answer {i}: {made[i % 60]} end" for i in range(count)]
    return [*made[: count - 1], "x" * 1_000_000]


def row(group: str, metric: str, value: float, half: float = 0.018, **changes: Any) -> Row:
    """A row whose difference is from a baseline that has 0.1."""
    verdict = changes.pop("verdict", "better")
    difference = (
        None if verdict == "baseline" else Estimate(value - 0.1, value - 0.12, value - 0.08)
    )
    made = Row(
        group=group, metric=metric, evaluation="tasks", slice="", higher_is_better=True, unit="",
        n=300, clusters=300, seeds=3, estimate=Estimate(value, value - half, value + half),
        difference=difference, p=0.0001, p_holm=0.0002, detectable=0.015, level="method",
        verdict=verdict,
    )  # fmt: skip
    return replace(made, **changes)


def variant(group: str, seconds: float | None = None, **changes: Any) -> VariantResult:
    """A variant that trained for so long, or not at all."""
    trained = seconds is not None
    cost = {
        "train_seconds": seconds, "seconds": seconds, "trainable_parameters": 65_536.0,
        "state_bytes": 12.5 * 2**20, "tokens_per_second": 910.0,
    }  # fmt: skip
    check = {"check": "the checkpoint reloads", "status": "passed", "detail": "0"}
    skipped = {"check": "switched off, it is its base", "status": "skipped", "detail": "no switch"}
    made = VariantResult(
        group=group, ids=(f"{group}-0",), labels={"method": group, "objective": "sft"},
        trained=trained, seeds=(0, 1, 2), status="ok", reasons=(),
        cost=cost if trained else {"tokens_per_second": 900.0},
        predicted={"seconds": 9.0, "state_bytes": 12.0 * 2**20} if trained else {},
        generation={"tasks": {"eos_rate": 0.98, "truncation_rate": 0.02, "mean_tokens": 11.2}},
        audit=(check, skipped) if trained else (),
        losses=(((1, 3.2), (2, 2.1), (3, 1.7)), ((1, 3.1), (2, 2.2), (3, 1.6))) if trained else (),
    )  # fmt: skip
    return replace(made, **changes)


def comparison(**changes: Any) -> Comparison:
    """A baseline, a slow best, a cheap one nearly as good, and one that failed."""
    rows = []
    for part in ("", "colours", "numbers"):
        rows += [
            row("zero-shot", "rougeL", 0.1, verdict="baseline", slice=part),
            row("full-sft", "rougeL", 0.412, slice=part),
            row("lora-sft", "rougeL", 0.401, slice=part),
        ]
    ppl = {"higher_is_better": False, "forgetting": True}
    rows += [
        row("zero-shot", "forgetting", 4.1, 0.2, verdict="baseline", **ppl),
        row("full-sft", "forgetting", 9.3, 0.3, verdict="worse", **ppl),
        row("lora-sft", "forgetting", 4.2, 0.2, verdict="no difference shown", **ppl),
    ]
    failed = variant(
        "dpo-sft",
        trained=True,
        cost={},
        predicted={},
        status="failed",
        reasons=("train of dpo-sft: out of memory | 8 GiB",),
    )
    names = ("zero-shot", "full-sft", "lora-sft")
    examples = tuple(
        Example(
            id=f"row-{i}", evaluation="tasks", group="colours" if i % 2 else "numbers",
            prompt=f"{SECRET} on day {i}. How many?", references=(f"{SECRET}, so seven.",),
            answers={name: f"{name} says {SECRET} {i}" for name in names},
            scores={name: {"rougeL": 0.1 * ((i + j) % 10)} for j, name in enumerate(names)},
        )
        for i in range(45)
    )  # fmt: skip
    made = Comparison(
        suite="pocket", description="What to ship.", command="harness run suites/pocket.yaml",
        baseline="zero-shot",
        variants=(variant("zero-shot"), variant("full-sft", 40.0), variant("lora-sft", 12.0),
                  failed),
        rows=tuple(rows), examples=examples,
        contamination=({"pair": "tasks / tasks", "test_rows": 300, "n": 13, "exact": 2,
                        "exact_ids": ["row-3"], "overlap": 1, "overlap_ids": [], "short": 4},),
        provenance={"machine": {"platform": "Linux", "cores": 4}, "versions": {"torch": "2.9"},
                    "models": {"small": {"digest": "ab12", "parameters": 1_000_000}},
                    "stages": {"lora-sft-0": {"train": "c0ffee", "generate tasks": "beef"}}},
        data=({"entry": "tasks", "split": "train", "rows": 900, "layout": "messages",
               "dropped": {"empty": 3, "over `limit`": 0}, "digest": "d1ce"},),
        ledger={"train train": 52.0, "generate generate": 9.1}, notes=("Three seeds.",),
        suite_text=f"name: pocket\nbase: '{SECRET}, so seven.'\n",
    )  # fmt: skip
    return replace(made, **changes)


def cost_of(group: str, gained: float, lost: float, verdict: str = "worse") -> Tax:
    """A variant that gained so much reward and so much perplexity over its start."""

    def moved(metric: str, by: float, verdict: str, **changes: Any) -> Row:
        found = row(group, metric, 3.0 + by, verdict=verdict, **changes)
        return replace(found, difference=Estimate(by, by - 0.1, by + 0.1))

    bare = replace(row(group, "kl_to_start", 0.2, verdict=""), difference=None)
    return Tax(
        group,
        "sft",
        (
            Measured("reward", moved("reward", gained, "better", evaluation="asked")),
            Measured("from_start", bare),
            Measured("language", moved("forgetting", lost, verdict, higher_is_better=False)),
        ),
    )


def hostile() -> Comparison:
    """Every hostile text as a variant, an axis, a slice, a metric, an answer, a reason."""
    good, bad = comparison(), tuple(hostile_texts())
    names = tuple(text for text in bad if not any("\ud800" <= c <= "\udfff" for c in text))
    variants = tuple(
        variant(name, 5.0 + i, labels={"method": name, "lora.r": str(i)})
        for i, name in enumerate(names[:70])
    )
    failed = variant("failed", status="failed", reasons=bad[:40])
    rows = [row(v.group, "rougeL", 0.3 + i / 1000) for i, v in enumerate(variants)]
    rows += [
        row(v.group, "forgetting", 4 + i / 100, forgetting=True) for i, v in enumerate(variants)
    ]
    sliced = [row(names[0], "rougeL", 0.3, slice=name) for name in names[:40]]
    named = [row(names[0], name, 0.3) for name in names[:40]]
    examples = tuple(
        Example(text, "tasks", text, text, (text,), {n: text for n in names[:4]},
                {names[0]: {text: 1.0}} if i < 12 else {})
        for i, text in enumerate(bad)
    )  # fmt: skip
    data = tuple(
        {"entry": t, "split": t, "rows": 1, "dropped": {t: 1}, "digest": t} for t in names[:40]
    )
    return replace(
        good, suite=HOSTILE["close"], description=HOSTILE["image"], notes=bad[:-1], data=data,
        variants=(*good.variants, *variants, failed), examples=(*examples, *good.examples),
        rows=(*good.rows, *rows, *sliced, *named), suite_text="\n".join(bad[:-1]),
        command=f"harness run {HOSTILE['close']}",
        taxes=tuple(replace(cost_of(n, 0.3 + i, 2.0), start=n) for i, n in enumerate(names[:20])),
    )  # fmt: skip
