"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const PAGE = 60;
const find = (id) => document.getElementById(id);
const form = find("controls"), controls = form.elements;
form.addEventListener("submit", (event) => event.preventDefault());

/* Elements are made by name and filled with text, never with markup: names of features may hold anything. */
function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "line", "rect", "text", "title"].includes(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
const text = (value, digits, unit = "") => (value === null ? "–" : value.toFixed(digits).replace("-", "−") + unit);
const percent = (value) => `${Math.round(100 * value)} %`;
const degrees = (value) => text(value, value !== null && value < 10 ? 2 : 1, "°");

/* What was run, tables, figures. */

find("title").textContent = document.title = data.title;
for (const [name, value] of data.facts) find("facts").append(make("div", {}, make("dt", {}, name), make("dd", {}, value)));

for (const { title, columns, rows } of data.tables) {
  const numeric = columns.map((_, c) => rows.every((row) => /^([-−+]?[\d.][\d.,e+−-]*( ?[%°])?|–|)$/.test(row[c])) ? "number" : null);
  const line = (tag, cells) => make("tr", {}, ...cells.map((cell, c) => make(tag, { class: numeric[c], scope: tag === "th" ? "col" : null }, cell)));
  const table = make("table", {}, make("caption", {}, title), make("thead", {}, line("th", columns)), make("tbody", {}, ...rows.map((row) => line("td", row))));
  const region = make("div", { class: "scrolling" }, table);
  find("tables").append(region);
  /* What scrolls must be reachable by keyboard. */
  if (region.scrollWidth > region.clientWidth || region.scrollHeight > region.clientHeight) {
    for (const [name, value] of [["tabindex", 0], ["role", "region"], ["aria-label", title]]) region.setAttribute(name, value);
  }
}
for (const [caption, svg] of data.figures) {
  const source = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(svg);
  find("pictures").append(make("figure", {}, make("img", { src: source, alt: caption }), make("figcaption", {}, caption)));
}
find("summary").hidden = !data.tables.length;
find("figures").hidden = !data.figures.length;
for (const section of document.querySelectorAll("section:not([hidden])")) {
  document.querySelector("nav").append(make("a", { href: "#" + section.id }, section.querySelector("h2").textContent));
}

/* The gallery. A row is what a card is made of; its `order` is its place among all rows. */

/* Without a value last, in either order; equal ones as they came. */
function sorted(rows, valueOf, sign) {
  return [...rows].sort((a, b) => {
    const x = valueOf(a), y = valueOf(b);
    if (x === null || y === null) return (x === null) - (y === null) || a.order - b.order;
    return sign * (x - y) || a.order - b.order;
  });
}

/* Show a page of the rows, what is counted, and buttons that call `turnTo` with the number of another page. */
function showCards(rows, page, cardOf, counted, turnTo) {
  const pages = Math.max(1, Math.ceil(rows.length / PAGE)), first = page * PAGE, shown = rows.slice(first, first + PAGE);
  find("gallery").replaceChildren(...shown.map(cardOf));
  find("gallery").start = first + 1;
  find("count").textContent = counted + (pages > 1 ? `, ${first + 1}–${first + shown.length} on this page` : "");
  for (const pager of document.querySelectorAll(".pager")) {
    const turn = (label, to) => {
      const button = make("button", { type: "button", class: "plain" }, label);
      button.disabled = !(to >= 0 && to < pages);
      button.onclick = () => turnTo(to);
      return button;
    };
    pager.replaceChildren(...(pages > 1 ? [turn("Previous", page - 1), make("span", {}, `page ${page + 1} of ${pages}`), turn("Next", page + 1)] : []));
  }
}

const swatch = (attributes) => make("svg", { viewBox: "-5.5 -5.5 11 11", "aria-hidden": "true" }, make("path", attributes));

/* What the bars of the cards are. */
function showLegend(series, explained) {
  find("legend").replaceChildren(
    ...series.map((which) => make("span", {}, swatch({ d: "M-5,-3h10v6h-10z", fill: `var(--${which})` }), which)),
    make("span", {}, `The ${data.entries} features with the largest entries; ${explained}`));
}

function picture(source, label, of, numbers) {
  const image = source === null ? make("div", { class: "missing" }, "not finite")
    : make("img", { src: "data:image/webp;base64," + source, alt: `${label}, ${of}`, width: 96, height: 96, decoding: "async" });
  return make("figure", {}, image, make("figcaption", {}, label), make("dl", {}, ...numbers.flatMap(([term, value]) => [make("dt", {}, term), make("dd", {}, value)])));
}

/* The largest entries as bars, in as many series as there are; the numbers beside them are those of the first. */

function drawBars(features, entries, series, [low, high]) {
  const width = 300, step = 13, names = Math.min(88, 7 * Math.max(...features.map((each) => each.length))), end = width - 36;
  const thick = 10.5 / Object.keys(series).length;
  /* The longest bar fills its side. */
  const stretch = 1 / Math.max(1e-6, ...Object.values(series).flatMap((values) => values.map((value) => (value === null ? 0 : Math.max(value / high, low && value / low)))));
  const x = (value) => names + 6 + (value * stretch - low) / (high - low) * (end - names - 6);
  const svg = make("svg", { class: "bars", viewBox: `0 0 ${width} ${entries.length * step}`, role: "img" });
  const [first] = Object.values(series);
  const spoken = entries.map((feature, r) => {
    const label = features[feature];
    const line = make("text", { x: names, y: r * step + 9.5, "text-anchor": "end" }, label.length > 15 ? label.slice(0, 14) + "…" : label);
    const values = Object.entries(series).map(([which, of]) => `${which} ${text(of[r], 3)}`).join(", ");
    const entry = make("text", { class: "entry", x: width, y: r * step + 9.5, "text-anchor": "end" }, text(first[r], 2));
    svg.append(make("g", {}, make("title", {}, `${label}: ${values}`), line, entry, ...Object.entries(series).flatMap(([which, of], s) => {
      if (of[r] === null) return [];
      return make("rect", { x: Math.min(x(0), x(of[r])), y: r * step + 1 + thick * s, width: Math.abs(x(of[r]) - x(0)), height: thick, fill: `var(--${which})` });
    })));
    return `${label}: ${values}`;
  });
  svg.append(make("line", { class: "zero", x1: x(0), x2: x(0), y1: 0, y2: entries.length * step }));
  svg.setAttribute("aria-label", `Largest entries. ${spoken.join("; ")}`);
  return svg;
}
