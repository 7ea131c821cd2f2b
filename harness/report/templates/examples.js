
// --- Examples: filtered from the embedded JSON, twenty at a time, of very many variants fewer. `#example-<key>` leads to one.

function startExamples(data) {
  const PAGE = Math.max(1, Math.min(20, Math.floor(1000 / data.variants.length)));
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

  function textBlock(text, other = null) {
    const block = make("bdi", "text");
    block.append(...(text === "" ? ["(empty)"] : marked(text, other)));
    block.dir = "auto";
    return block;
  }

  // A text that is higher than its box says so, by a shade and a button, and the keyboard reaches it.
  function fold(block) {
    const whole = block.classList.contains("whole");
    const over = block.scrollHeight > block.clientHeight + 1;
    const known = block.nextElementSibling;
    const button = known && known.classList.contains("unfold") ? known : null;
    if (whole || over === Boolean(button)) return;
    block.classList.toggle("folded", over);
    if (!over) {
      button.remove();
      block.removeAttribute("tabindex");
      return;
    }
    block.tabIndex = 0;
    const added = make("button", "unfold");
    added.type = "button";
    const told = (open) => {
      added.textContent = open ? "Show less" : `Show all ${block.textContent.length} characters`;
      added.setAttribute("aria-expanded", String(open));
    };
    told(false);
    added.addEventListener("click", () => told(block.classList.toggle("whole")));
    block.after(added);
  }

  function foldAll(within) {
    within.querySelectorAll(".text").forEach(fold);
  }

  function given(title, texts) {
    const part = make("div");
    part.append(make("p", "part", title), ...texts.map((text) => textBlock(text)));
    return part;
  }

  // What an answer's words are held against: the reference, or the baseline's answer.
  function against(example, variant) {
    const wanted = value("diff");
    if (wanted === "reference") return nearest(example.answers[variant], example.references);
    const base = example.answers[data.baseline];
    return wanted === "baseline" && variant !== data.baseline && base !== undefined ? base : null;
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
    part.append(title, textBlock(example.answers[variant], against(example, variant)));
    if (example.cut[variant]) part.append(make("p", "cut", "✂ cut at the length limit: more would have followed"));
    part.append(scores);
    return part;
  }

  function card(example, metric) {
    const article = make("article");
    article.id = `example-${example.key}`;
    article.tabIndex = -1;
    const title = make("h3");
    const link = make("a");
    link.href = `#example-${example.key}`;
    link.title = "Link to this example";
    link.append(make("bdi", "", example.id));
    title.append(link);
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

  // How far the chosen variant (or the one that moved most) lies from the baseline, better first.
  function moved(example, metric, variant) {
    const chosen = variant === "" ? data.variants.map((_, i) => i) : [Number(variant)];
    let most = 0;
    chosen.forEach((i) => {
      if (data.baseline < 0 || i === data.baseline || !data.metrics[metric]) return;
      const [own, base] = [example.scores[i][metric], example.scores[data.baseline][metric]];
      if (own === null || base === null) return;
      const change = data.metrics[metric].up ? own - base : base - own;
      if (Math.abs(change) > Math.abs(most)) most = change;
    });
    return most;
  }

  function sorted(examples, metric, variant) {
    const by = value("sort");
    if (by === "") return examples;
    const keyed = examples.map((example) => [moved(example, metric, variant), example]);
    const sign = by === "worse" ? 1 : -1;
    keyed.sort(([a], [b]) => by === "most" ? Math.abs(b) - Math.abs(a) : sign * (a - b));
    return keyed.map(([, example]) => example);
  }

  function showMore() {
    const metric = Number(value("metric"));
    const next = found.slice(shown, shown + PAGE);
    const cards = next.map((example) => card(example, metric));
    list.append(...cards);
    cards.forEach(foldAll);
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
    found = sorted(found, chosen[2], chosen[3]);
    shown = 0;
    list.replaceChildren();
    showMore();
  }

  // A link to one example shows it, whatever is filtered.
  function follow() {
    const key = window.location.hash.replace(/^#example-/, "");
    const wanted = data.examples.findIndex((example) => example.key === key);
    if (wanted < 0) return;
    let article = document.getElementById(`example-${key}`);
    if (!article) {
      form.reset();
      filter();
      while (!(article = document.getElementById(`example-${key}`)) && shown < found.length) showMore();
    }
    article.scrollIntoView();
    article.focus({ preventScroll: true });
  }

  const form = document.getElementById("filters");
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", showMore);
  filter();
  window.addEventListener("hashchange", follow);
  window.addEventListener("resize", () => foldAll(list));
  follow();
}

const examples = embedded("examples-data");
if (examples) startExamples(examples);
