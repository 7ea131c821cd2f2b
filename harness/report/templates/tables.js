// Text reaches the page through textContent only: nothing a model wrote is ever parsed as HTML.

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function embedded(id) {
  const element = document.getElementById(id);
  return element ? JSON.parse(element.textContent) : null;
}

// --- Tables: a header's button sorts by its column; what has no figure goes last. A select above
// the table groups its rows by an axis; sorting then holds within the groups.

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

function dataRows(table) {
  return Array.from(table.tBodies[0].rows).filter((row) => !row.classList.contains("group"));
}

function sortBy(table, column) {
  const heads = Array.from(table.tHead.rows[0].cells);
  const up = heads[column].getAttribute("aria-sort") !== "ascending";
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", up ? "ascending" : "descending");
  const rows = dataRows(table).map((row) => [sortValue(row, column), row]);
  const numeric = rows.some(([value]) => typeof value === "number");
  const missing = ([value]) => value === null || (numeric && typeof value === "string");
  rows.sort((a, b) => missing(a) - missing(b) || (missing(a) ? 0 : (up ? 1 : -1) * order(a[0], b[0])));
  table.tBodies[0].append(...rows.map(([, row]) => row));
  group(table);
}

function group(table) {
  const select = document.getElementById(`g-${table.id}`);
  const body = table.tBodies[0];
  const rows = dataRows(table);
  Array.from(body.rows).forEach((row) => row.classList.contains("group") && row.remove());
  if (!select || select.value === "") return;
  const axis = Number(select.value);
  const groups = new Map();
  rows.forEach((row) => {
    const value = JSON.parse(row.dataset.groups)[axis];
    groups.set(value, [...(groups.get(value) || []), row]);
  });
  groups.forEach((members, value) => {
    const head = make("th");
    head.colSpan = table.tHead.rows[0].cells.length;
    head.scope = "rowgroup";
    head.append(make("bdi", "", `${select.selectedOptions[0].textContent}: ${value}`));
    head.append(make("span", "below", ` ${members.length} ${members.length > 1 ? "rows" : "row"}`));
    const row = make("tr", "group");
    row.append(head);
    body.append(row, ...members);
  });
}

document.querySelectorAll("table").forEach((table) => {
  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    head.firstElementChild.addEventListener("click", () => sortBy(table, column));
  });
  const select = document.getElementById(`g-${table.id}`);
  if (!select) return;
  select.form.hidden = false;
  select.form.addEventListener("submit", (event) => event.preventDefault());
  select.addEventListener("change", () => group(table));
});
