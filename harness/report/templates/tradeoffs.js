
// --- Trade-offs: two measures against each other. The figures and the fronts come with the page.

const HEIGHT = 400, LEFT = 64, RIGHT = 18, TOP = 14, BOTTOM = 48;
// As in the legend: ● ■ ▲ ▼ ◆ ★ ✚
const SHAPES = [
  "M-5,0A5,5 0 1 0 5,0A5,5 0 1 0 -5,0Z", "M-4.5,-4.5H4.5V4.5H-4.5Z", "M0,-5.5L5.5,4.5H-5.5Z",
  "M0,5.5L5.5,-4.5H-5.5Z", "M0,-6L6,0L0,6L-6,0Z",
  "M0.0,-6.5L1.6,-2.2L6.2,-2.0L2.6,0.8L3.8,5.3L0.0,2.7L-3.8,5.3L-2.6,0.8L-6.2,-2.0L-1.6,-2.2Z",
  "M-6,-2H-2V-6H2V-2H6V2H2V6H-2V2H-6Z",
];

function draw(tag, attributes, ...children) {
  const canvas = document.getElementById("tradeoff-svg");
  const element = document.createElementNS(canvas.namespaceURI, tag);
  Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
  element.append(...children);
  return element;
}

function short(value, kind) {
  if (kind === "bytes") {
    const power = value > 0 ? Math.min(4, Math.max(0, Math.floor(Math.log2(value) / 10))) : 0;
    return `${Number((value / 1024 ** power).toPrecision(3))} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
  }
  if (kind === "seconds") return `${Number(value.toPrecision(3))} s`;
  if (kind === "count" && Math.abs(value) >= 1e4) {
    return new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 }).format(value);
  }
  return String(Number(value.toPrecision(4)));
}

// Evenly spaced round ticks; of positive costs that span more than a factor of 20, powers of ten.
function axis(values, kind, from, to) {
  const low = Math.min(...values), high = Math.max(...values);
  const positive = values.filter((value) => value > 0);
  const least = Math.min(...positive);
  if (kind !== "metric" && low >= 0 && positive.length > 1 && high > 20 * least) {
    const place = (value) => value > 0 ? Math.log10(value / least) + (low === 0 ? 0.5 : 0) : 0;
    const span = place(high) || 1;
    const ticks = low === 0 ? [0] : [];
    for (let p = Math.ceil(Math.log10(least)); p <= Math.log10(high); p++) ticks.push(10 ** p);
    if (ticks.length < 2) ticks.push(least, high);
    return { at: (value) => from + (to - from) * (0.05 + 0.9 * place(value) / span), ticks };
  }
  const span = high - low || Math.abs(high) || 1;
  const step = [1, 2, 5, 10].map((n) => n * 10 ** Math.floor(Math.log10(span / 5))).find((n) => span / n <= 6);
  const ticks = []; // at most seven: they have room at 375 pixels
  for (let tick = Math.ceil(low / step) * step; tick <= high + step / 1e6; tick += step) ticks.push(Number(tick.toPrecision(12)));
  return { at: (value) => from + (to - from) * (0.05 + 0.9 * (value - low) / span), ticks };
}

function startTradeoffs(data) {
  const [across, up] = ["t-x", "t-y"].map((id) => document.getElementById(id));
  const svg = document.getElementById("tradeoff-svg");
  const place = svg.parentElement;
  const told = document.getElementById("tradeoff-front");

  function point(i, x, y, ends, label) {
    const colour = `c${(data.numbers[i] - 1) % 7}`;
    const shift = Math.floor((data.numbers[i] - 1) / 7);
    const mark = draw("g", { class: colour });
    if (ends) mark.append(draw("path", { d: `M${x},${ends[0]}V${ends[1]}`, class: "ends" }));
    mark.append(draw("path", {
      d: SHAPES[(data.numbers[i] - 1 + shift) % 7], transform: `translate(${x},${y})`,
      class: data.trained[i] ? "mark" : "mark hollow",
    }));
    mark.append(draw("title", {}, label));
    return mark;
  }

  function show() {
    const [i, j] = [Number(across.value), Number(up.value)];
    const [a, b] = [data.measures[i], data.measures[j]];
    // As wide as its place, so that its letters keep their size on a narrow screen.
    const WIDTH = Math.max(280, Math.min(720, place.clientWidth || 640));
    const known = data.numbers.map((_, n) => n).filter((n) => a.values[n] !== null && b.values[n] !== null);
    svg.replaceChildren();
    told.replaceChildren();
    if (!known.length || i === j) {
      told.append(i === j ? "Choose two different measures." : "No variant has a figure for both.");
      return;
    }
    const spread = (m) => known.flatMap((n) => [m.values[n], ...(m.ends[n] || [])]);
    const x = axis(known.map((n) => a.values[n]), a.kind, LEFT, WIDTH - RIGHT);
    const y = axis(spread(b), b.kind, HEIGHT - BOTTOM, TOP);
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("aria-label", `${b.name} against ${a.name}; the front is listed below`);
    x.ticks.forEach((tick) => svg.append(draw("text", {
      x: x.at(tick), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" }, short(tick, a.kind))));
    y.ticks.forEach((tick) => svg.append(
      draw("path", { d: `M${LEFT},${y.at(tick)}H${WIDTH - RIGHT}`, class: "grid" }),
      draw("text", { x: LEFT - 8, y: y.at(tick) + 4, "text-anchor": "end" }, short(tick, b.kind))));
    svg.append(draw("path", { d: `M${LEFT},${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}`, class: "axes" }));
    svg.append(draw("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, a.name));
    const front = data.fronts[`${i},${j}`];
    const steps = front.map((n) => [x.at(a.values[n]), y.at(b.values[n])]);
    // Between two variants of the front nothing is better than the worse of both in each respect.
    const path = steps.map(([px, py], k) => k === 0 ? `M${px},${py}` : a.up ? `V${py}H${px}` : `H${px}V${py}`);
    svg.append(draw("path", { d: path.join(""), class: "front" }));
    known.forEach((n) => {
      const [px, py] = [x.at(a.values[n]), y.at(b.values[n])];
      const ends = b.ends[n] && b.ends[n].map(y.at);
      svg.append(point(n, px, py, ends, `${data.names[n]}: ${b.name} ${b.texts[n]}; ${a.name} ${a.texts[n]}`));
      if (known.length <= 60 || front.includes(n)) {
        const flip = px > WIDTH - 60;
        svg.append(draw("text", { x: px + (flip ? -9 : 9), y: py - 6, "text-anchor": flip ? "end" : "start" },
          String(data.numbers[n])));
      }
    });
    place.previousElementSibling.textContent = b.name;
    told.append(make("strong", "", "On the Pareto front: "));
    front.forEach((n, k) => {
      if (k) told.append("; ");
      told.append(`${data.numbers[n]} `, make("bdi", "", data.names[n]), ` (${b.texts[n]}, ${a.texts[n]})`);
    });
    told.append(".");
  }

  document.getElementById("tradeoff").hidden = false;
  [across, up].forEach((select) => select.addEventListener("change", show));
  let width = place.clientWidth;
  new ResizeObserver(() => {
    if (place.clientWidth !== width) show();
    width = place.clientWidth;
  }).observe(place);
  across.form.addEventListener("submit", (event) => event.preventDefault());
  show();
}

const weighed = embedded("measures-data");
if (weighed) startTradeoffs(weighed);
