// What pages share: times, revisions, counts, problems, lists in pages.
import { h, path } from "./dom.js";

const STEPS = [[60, "second"], [60, "minute"], [24, "hour"], [365, "day"], [Infinity, "year"]];
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });

function ago(seconds, now) {
  let amount = Math.min(0, seconds - now);
  for (const [size, unit] of STEPS) {
    if (Math.abs(amount) < size) return relative.format(Math.trunc(amount), unit);
    amount /= size;
  }
  return "";
}

/** A time in seconds since 1970, told from now and exactly on hover. */
export function time(seconds) {
  if (seconds === null || seconds === undefined) return null;
  const exact = new Date(seconds * 1000).toISOString().replace(".000", "");
  return h("time", { datetime: exact, title: exact, "data-seconds": seconds }, ago(seconds, Date.now() / 1000));
}

/** Keeps every time on the page true. */
export function keepTimes() {
  setInterval(() => {
    for (const element of document.querySelectorAll("time[data-seconds]")) {
      element.textContent = ago(Number(element.dataset.seconds), Date.now() / 1000);
    }
  }, 10_000);
}

/** A revision. */
export function revision(text) {
  return text ? h("code", { class: "revision" }, text) : h("span", { class: "none" }, "none");
}

/** What a workload runs, and what it is to run where that differs. */
export function runs(workload) {
  const { attached, desired } = workload;
  return attached === desired ? revision(attached) : [revision(attached), " → ", revision(desired)];
}

const STANDS = {
  failed: ["failed", "bad"],
  pending: ["waiting", "warn"],
  frozen: ["frozen", "calm"],
  rolling: ["rolling", "busy"],
  ready: ["ready", "good"],
};

/** Where a workload stands. */
export function stand(name) {
  const [word, tone] = STANDS[name];
  return h("span", { class: `badge ${tone}` }, word);
}

/** How many workloads stand where: a bar, and the same in words. */
export function counts(of) {
  const present = Object.keys(STANDS).reverse().filter((name) => of[name] > 0);
  if (present.length === 0) return h("p", { class: "none" }, "no workloads");
  const words = present.map((name) => `${of[name]} ${STANDS[name][0]}`).join(", ");
  const bar = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const all = present.reduce((sum, name) => sum + of[name], 0);
  bar.setAttribute("viewBox", "0 0 100 4");
  bar.setAttribute("preserveAspectRatio", "none");
  bar.setAttribute("class", "bar-chart");
  bar.setAttribute("aria-hidden", "true");
  let left = 0;
  for (const name of present) {
    const part = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const width = (of[name] / all) * 100;
    part.setAttribute("x", String(left));
    part.setAttribute("width", String(width));
    part.setAttribute("height", "4");
    part.setAttribute("class", `fill ${STANDS[name][1]}`);
    left += width;
    bar.append(part);
  }
  return h("div", { class: "counts" }, bar, h("p", {}, words));
}

/** What is wrong, each with its reason. */
export function problems(list) {
  return list.map((one) => h("p", { class: "notice bad" }, h("strong", {}, one.reason), " ", one.message));
}

/** The address of a workload's page. */
export function workloadPath(workload) {
  return path("workloads", workload.namespace, workload.kind, workload.name);
}

/** A table that becomes a list of cards where there is little room. Rows are lists of cells. */
export function table(caption, columns, rows) {
  const head = h("tr", { role: "row" }, columns.map((column) => h("th", { role: "columnheader", scope: "col" }, column)));
  const body = rows.map((cells) => h("tr", { role: "row" }, cells.map((cell, index) =>
    h("td", { role: "cell" }, h("span", { class: "label", "aria-hidden": "true" }, columns[index]), h("div", {}, cell)))));
  return h("table", { role: "table" },
    h("caption", {}, caption),
    h("thead", { role: "rowgroup" }, head),
    h("tbody", { role: "rowgroup" }, body));
}

const PAGE = 50;
/** What is filtered and which page is open, by list: it outlives news. */
const views = new Map();

/** A table of many: filtered by text, a page at a time, so that a thousand rows are as quick as ten. */
export function paged(key, caption, columns, items, textOf, rowOf) {
  const view = views.get(key) ?? { filter: "", page: 0 };
  views.set(key, view);
  const place = h("div", { id: `${key}-rows` });
  const position = h("span", { role: "status" });
  const texts = items.map((item) => textOf(item).toLowerCase());
  const turn = (by) => { view.page += by; draw(); };
  const back = h("button", { type: "button", id: `${key}-back`, onclick: () => turn(-1) }, "Previous");
  const on = h("button", { type: "button", id: `${key}-on`, onclick: () => turn(1) }, "Next");
  function draw() {
    const words = view.filter.toLowerCase().split(/\s+/).filter(Boolean);
    const found = items.filter((_, index) => words.every((word) => texts[index].includes(word)));
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    view.page = Math.min(Math.max(0, view.page), pages - 1);
    const from = view.page * PAGE;
    const rows = found.slice(from, from + PAGE).map(rowOf);
    place.replaceChildren(rows.length ? table(caption, columns, rows) : h("p", { class: "none" }, "Nothing matches."));
    position.textContent = found.length ? `${from + 1} to ${from + rows.length} of ${found.length}` : "0 of " + items.length;
    back.disabled = view.page === 0;
    on.disabled = view.page >= pages - 1;
  }
  draw();
  if (items.length <= 8) return place;
  const filter = h("input", {
    type: "search", id: `${key}-filter`, value: view.filter, placeholder: "name, namespace, state, revision",
    oninput: (event) => { view.filter = event.target.value; view.page = 0; draw(); },
  });
  return h("div", {},
    h("div", { class: "filter" }, h("label", { for: `${key}-filter` }, "Filter"), filter),
    place,
    h("div", { class: "pager" }, back, position, on));
}
