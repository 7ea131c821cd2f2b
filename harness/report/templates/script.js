"use strict";
// Text reaches the page through textContent only: nothing a model wrote is ever parsed as HTML.

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// --- Tables: a header's button sorts by its column; what has no figure goes last.

function sortValue(row, column) {
  const cell = row.cells[column];
  if (!cell || cell.classList.contains("reason")) return null;
  return cell.dataset.sort !== undefined ? Number(cell.dataset.sort) : cell.textContent.trim();
}

function order(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return a.localeCompare(b, "en", { numeric: true });
}

function sortBy(table, column) {
  const heads = Array.from(table.tHead.rows[0].cells);
  const up = heads[column].getAttribute("aria-sort") !== "ascending";
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", up ? "ascending" : "descending");
  const rows = Array.from(table.tBodies[0].rows, (row) => [sortValue(row, column), row]);
  const numeric = rows.some(([value]) => typeof value === "number");
  const missing = ([value]) => value === null || (numeric && typeof value === "string");
  rows.sort((a, b) => missing(a) - missing(b) || (missing(a) ? 0 : (up ? 1 : -1) * order(a[0], b[0])));
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

document.querySelectorAll("table").forEach((table) => {
  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    head.firstElementChild.addEventListener("click", () => sortBy(table, column));
  });
});

// --- Examples: filtered from the embedded JSON, twenty at a time.

function startExamples(data) {
  const PAGE = 20;
  const control = (name) => document.getElementById(`f-${name}`);
  const value = (name) => (control(name) ? control(name).value : "");
  const list = document.getElementById("examples");
  const more = document.getElementById("more");
  let found = [];
  let shown = 0;

  // 1 better, -1 worse, 0 equal or unknown: one example's score against the baseline's own.
  function compared(example, variant, metric) {
    if (data.baseline < 0 || variant === data.baseline || !data.metrics[metric]) return 0;
    const own = example.scores[variant][metric];
    const base = example.scores[data.baseline][metric];
    if (own === null || base === null || own === base) return 0;
    return own > base === data.metrics[metric].up ? 1 : -1;
  }

  function matches(example, text, family, metric, variant, outcome) {
    if (family && example.family !== family) return false;
    if (outcome) {
      const wanted = outcome === "better" ? 1 : -1;
      const chosen = variant === "" ? data.variants.map((_, i) => i) : [Number(variant)];
      if (!chosen.some((i) => compared(example, i, metric) === wanted)) return false;
    }
    if (!text) return true;
    const parts = [example.id, example.prompt, ...example.references, ...example.answers];
    return parts.some((part) => part !== null && part.toLowerCase().includes(text));
  }

  function textBlock(text) {
    const block = make("bdi", "text", text === "" ? "(empty)" : text);
    block.dir = "auto";
    if (text.length > 600) block.tabIndex = 0; // it scrolls: the keyboard must reach it
    return block;
  }

  function given(title, texts) {
    const part = make("div");
    part.append(make("p", "part", title), ...texts.map(textBlock));
    return part;
  }

  function answerBlock(example, variant, metric) {
    const part = make("div");
    const title = make("p", "part");
    title.append(make("bdi", "", data.variants[variant]));
    if (variant === data.baseline) title.append(" (baseline)");
    const scores = make("p", "scores");
    data.metrics.forEach((known, i) => {
      const score = example.scores[variant][i];
      if (score === null) return;
      const sign = i === metric ? compared(example, variant, i) : 0;
      const mark = sign > 0 ? " ▲ better" : sign < 0 ? " ▼ worse" : "";
      const kind = sign > 0 ? "better" : sign < 0 ? "worse" : "";
      if (scores.childNodes.length) scores.append(" · ");
      const item = make("span", kind);
      item.append(make("bdi", "", known.name), ` ${Number(score.toFixed(3))}${mark}`);
      scores.append(item);
    });
    part.append(title, textBlock(example.answers[variant]), scores);
    return part;
  }

  function card(example, metric) {
    const article = make("article");
    const title = make("h3");
    title.append(make("bdi", "", example.id));
    if (example.family) title.append(make("bdi", "below", example.family));
    const top = make("div", "given");
    top.append(given("Prompt", [example.prompt]));
    if (example.references.length) {
      top.append(given(example.references.length > 1 ? "References" : "Reference", example.references));
    }
    const answers = make("div", "answers");
    data.variants.forEach((_, i) => {
      if (example.answers[i] !== null) answers.append(answerBlock(example, i, metric));
    });
    article.append(title, top, answers);
    return article;
  }

  function showMore() {
    const metric = Number(value("metric"));
    const next = found.slice(shown, shown + PAGE);
    list.append(...next.map((example) => card(example, metric)));
    shown += next.length;
    more.hidden = shown >= found.length;
    const total = data.examples.length;
    document.getElementById("count").textContent = found.length === total
      ? `${shown} of ${total} examples shown.`
      : `${shown} of ${found.length} shown, out of ${total} examples.`;
  }

  function filter() {
    const chosen = [value("text").trim().toLowerCase(), value("family"), Number(value("metric")),
      value("variant"), value("outcome")];
    found = data.examples.filter((example) => matches(example, ...chosen));
    shown = 0;
    list.replaceChildren();
    showMore();
  }

  const form = document.getElementById("filters");
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", showMore);
  filter();
}

const embedded = document.getElementById("data");
if (embedded) startExamples(JSON.parse(embedded.textContent));
