// One workload: the chain store → Secret → desired state → admission → rollout of each app, and where it stops.
import { h, path } from "./dom.js";
import { time } from "./format.js";

const WORDS = { done: ["done", "good"], waiting: ["waits", "warn"], stopped: ["stopped", "bad"], later: ["later", "calm"] };

function step(of) {
  const [word, tone] = WORDS[of.state];
  return h("li", { class: `step ${of.state}` },
    h("div", { class: "step-title" }, h("h3", {}, of.title), h("span", { class: `badge ${tone}` }, word), time(of.at)),
    h("p", {}, of.text));
}

export async function workload({ parts, ask }) {
  const [, namespace, kind, name] = parts;
  const view = await ask(`/api${path("workloads", namespace, kind, name)}`);
  document.title = `${view.namespace}/${view.name} · Scout`;
  const facts = [
    view.environment && `environment ${view.environment}`,
    view.lastManager && `last written by ${view.lastManager}`,
  ].filter(Boolean);
  return [
    h("div", {},
      h("h1", {}, h("small", {}, `${view.kind} `), `${view.namespace}/${view.name}`),
      h("p", { class: "hint" }, facts.join(" · "))),
    view.mode && h("p", { class: "notice warn" }, `Its annotation scout.commandk.dev/mutation-mode says ${view.mode}.`),
    view.leftovers.length > 0 && h("p", { class: "notice warn" },
      `It still holds ${view.leftovers.join(", ")}, which nothing delivers here any more.`),
    view.chains.length === 0 && h("p", { class: "notice calm" }, "No App that you may read is linked with this workload."),
    view.chains.map((chain) => h("section", { class: "card" },
      h("h2", {}, h("a", { href: path("apps", chain.app) }, chain.app), ` in ${chain.environment}`),
      h("ol", { class: "chain" }, chain.steps.map(step)))),
  ];
}
