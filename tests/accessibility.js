// Serious faults of accessibility in the page as it stands, as sentences (WCAG 2.2, level AA).
(() => {
  const faults = [];
  const say = (element, fault) => faults.push(`${element.tagName.toLowerCase()}#${element.id || "?"} `
    + `"${(element.textContent || "").trim().slice(0, 40)}": ${fault}`);
  const visible = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true });

  // 3.1.1, 2.4.2: a language and a title; 1.3.1: one main, headings that skip no level.
  if (!document.documentElement.lang) faults.push("html: no language");
  if (!document.title.trim()) faults.push("html: no title");
  if (document.querySelectorAll("main").length !== 1) faults.push("html: not one main");
  let level = 0;
  document.querySelectorAll("h1, h2, h3, h4, h5, h6").forEach((heading) => {
    const own = Number(heading.tagName[1]);
    if (own > level + 1) say(heading, `heading of level ${own} after level ${level}`);
    level = own;
  });

  // 4.1.2: ids are unique, references lead somewhere, ARIA states stand on roles that have them.
  const seen = new Set();
  document.querySelectorAll("[id]").forEach((element) => {
    if (seen.has(element.id)) say(element, "its id is given twice");
    seen.add(element.id);
  });
  for (const name of ["aria-labelledby", "aria-describedby", "aria-controls"]) {
    document.querySelectorAll(`[${name}]`).forEach((element) => element.getAttribute(name).split(/\s+/)
      .forEach((id) => document.getElementById(id) || say(element, `${name} names nothing`)));
  }
  document.querySelectorAll("nav a, a.skip").forEach((link) => {
    if (!document.getElementById(link.hash.slice(1))) say(link, "leads nowhere");
  });
  document.querySelectorAll("[aria-sort]").forEach((head) => {
    if (head.tagName !== "TH") say(head, "aria-sort on what is no header");
  });

  // 1.3.1, 3.3.2, 4.1.2: controls have names; table headers have a scope; images say what they are.
  document.querySelectorAll("input, select, button, summary, a[href]").forEach((control) => {
    const labels = control.labels ? Array.from(control.labels, (l) => l.textContent).join("") : "";
    const name = control.getAttribute("aria-label") || labels || control.textContent;
    const own = control.tagName === "SELECT" || control.tagName === "INPUT" ? control.getAttribute("aria-label") || labels : name;
    if (!own.trim()) say(control, "no name");
  });
  document.querySelectorAll("th").forEach((head) => head.scope || say(head, "no scope"));
  document.querySelectorAll("svg").forEach((svg) => {
    if (svg.getAttribute("aria-hidden") !== "true" && !svg.getAttribute("aria-label")) say(svg, "no name");
  });
  document.querySelectorAll("[aria-hidden=true] a, [aria-hidden=true] button, [aria-hidden=true] [tabindex]")
    .forEach((element) => say(element, "hidden from readers, yet reached by the keyboard"));

  // 2.1.1, 2.4.3: what scrolls is reached by the keyboard, and the order is the document's.
  document.querySelectorAll("*").forEach((element) => {
    const style = getComputedStyle(element);
    if (element.tabIndex > 0) say(element, "a tabindex above 0");
    const scrolls = /auto|scroll/.test(style.overflowX + style.overflowY)
      && (element.scrollWidth > element.clientWidth + 1 || element.scrollHeight > element.clientHeight + 1);
    if (scrolls && visible(element) && element.tabIndex < 0 && element !== document.documentElement
      && element !== document.body) say(element, "scrolls, and the keyboard cannot reach it");
  });

  // 2.5.8: targets of at least 24 by 24 pixels, but for links within a sentence.
  document.querySelectorAll("button, select, input, summary").forEach((target) => {
    const box = target.getBoundingClientRect();
    if (visible(target) && box.width && (box.width < 24 || box.height < 24)) {
      say(target, `a target of ${Math.round(box.width)} x ${Math.round(box.height)} pixels`);
    }
  });

  // 1.4.3: letters stand out 4.5:1 from what is behind them, large ones 3:1.
  const number = (text) => text.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const over = (top, under) => {
    const alpha = top.length > 3 ? top[3] : 1;
    return [0, 1, 2].map((i) => top[i] * alpha + under[i] * (1 - alpha));
  };
  const behind = (element) => {
    if (!element) return [255, 255, 255];
    const own = number(getComputedStyle(element).backgroundColor);
    if (own.length < 4 || own[3] === 1) return own.slice(0, 3);
    return over(own, behind(element.parentElement));
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || element.closest("script, style, option, noscript") || !visible(element)) continue;
    const style = getComputedStyle(element);
    const paper = behind(element);
    const colour = element instanceof SVGElement ? style.fill : style.color;
    if (!/^rgb/.test(colour)) continue;
    const [a, b] = [light(over(number(colour), paper)), light(paper)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    // 1.4.11: a mark that stands for nothing but itself is a drawing, for which 3:1 is enough.
    const mark = element.closest("[aria-hidden=true]") && !/[\p{L}\p{N}]/u.test(element.textContent);
    if (ratio < (large || mark ? 3 : 4.5)) say(element, `contrast ${ratio.toFixed(2)}`);
  }
  return [...new Set(faults)].slice(0, 40);
})()
