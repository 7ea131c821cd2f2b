(() => {
  const pairs = [...document.querySelectorAll("article")];
  const area = document.getElementById("pairs");
  const status = document.getElementById("status");
  const csv = document.getElementById("csv");
  const save = document.getElementById("save");
  const keys = document.getElementById("keys");
  const place = `harness-labels-${area.dataset.sheet}`;
  const kept = new Map();
  let at = 0, url = "";

  const chosen = (pair) => pair.querySelector("input:checked")?.value ?? "";

  // A browser may forbid storage for files: then labels last as long as the page.
  const remember = (work) => { try { return work(); } catch { return null; } };

  const tell = () => {
    const rows = pairs.map((pair) => [pair.dataset.id, chosen(pair)]).filter((row) => row[1]);
    const text = ["id,label", ...rows.map((row) => row.join(","))].join("\r\n") + "\r\n";
    csv.value = text;
    URL.revokeObjectURL(url);
    url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    save.href = url;
    remember(() => localStorage.setItem(place, JSON.stringify(Object.fromEntries(rows))));
    const left = pairs.length - rows.length;
    status.textContent = `Pair ${at + 1} of ${pairs.length}. ` +
      (left ? `${rows.length} labelled, ${left} left.` : "All are labelled: save them below.");
  };

  const show = (index, focus = true) => {
    at = Math.max(0, Math.min(pairs.length - 1, index));
    pairs.forEach((pair, number) => { pair.hidden = number !== at; });
    document.getElementById("back").disabled = at === 0;
    document.getElementById("next").disabled = at === pairs.length - 1;
    tell();
    if (focus) {
      pairs[at].focus({ preventScroll: true });
      pairs[at].scrollIntoView({ block: "start" });
    }
  };

  const open = () => {
    const after = [...pairs.keys()].map((step) => (at + 1 + step) % pairs.length);
    return after.find((index) => !chosen(pairs[index]));
  };

  const label = (value) => {
    pairs[at].querySelector(`input[value="${value}"]`).checked = true;
    const next = open();
    if (next === undefined) {
      tell();
      save.focus();
    } else {
      show(next);
    }
  };

  document.addEventListener("keydown", (event) => {
    if (!keys.checked || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === csv) return;
    const value = { 1: "1", 2: "2", t: "tie", T: "tie" }[event.key];
    const step = { n: 1, p: -1 }[event.key];
    if (value) { event.preventDefault(); label(value); }
    if (step) { event.preventDefault(); show(at + step); }
  });
  area.addEventListener("change", tell);
  document.getElementById("back").addEventListener("click", () => show(at - 1));
  document.getElementById("next").addEventListener("click", () => show(at + 1));
  document.getElementById("open").addEventListener("click", () => show(open() ?? at));

  const before = remember(() => JSON.parse(localStorage.getItem(place))) ?? {};
  for (const pair of pairs) kept.set(pair.dataset.id, pair);
  for (const [id, value] of Object.entries(before)) {
    const input = [...(kept.get(id)?.querySelectorAll("input") ?? [])].find((i) => i.value === value);
    if (input) input.checked = true;
  }
  show(Math.max(0, pairs.findIndex((pair) => !chosen(pair))), false);
})();
