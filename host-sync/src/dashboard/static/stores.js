// The stores: whether they answer, and what they said last.
import { h, path } from "./dom.js";
import { time } from "./format.js";

function store(of) {
  const [word, tone] = of.ready === null ? ["not read yet", "calm"] : of.ready ? ["ready", "good"] : ["in trouble", "bad"];
  return h("section", { class: "card", "aria-labelledby": `store-${of.name}` },
    h("div", { class: "step-title" },
      h("h2", { id: `store-${of.name}` }, of.name), h("span", { class: `badge ${tone}` }, word), time(of.since)),
    h("p", { class: "hint" }, `${of.backend} · read every ${of.refreshInterval}`),
    of.ready === false && h("p", { class: "notice bad" }, h("strong", {}, of.reason), " ", of.message),
    of.apps.length > 0 && h("p", {}, "Apps: ",
      of.apps.map((app, index) => [index > 0 && ", ", h("a", { href: path("apps", app) }, app)])));
}

export async function stores({ ask }) {
  const view = await ask("/api/stores");
  document.title = "Stores · Scout";
  return [
    h("h1", {}, "Stores"),
    view.missing.map((name) => h("p", { class: "notice bad" },
      `SecretStore ${name} does not exist, and Apps name it: create it, or name another one in storeRef.`)),
    view.stores.length === 0 && h("p", { class: "notice calm" },
      "There is no SecretStore that you may read: it takes get on secretstores.scout.commandk.dev."),
    view.stores.map(store),
  ];
}
