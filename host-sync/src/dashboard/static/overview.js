// Environments × apps, and what needs somebody.
import { h, path } from "./dom.js";
import { counts, problems, revision, runs, stand, table, time, workloadPath } from "./format.js";

function cell(of) {
  if (!of) return h("span", { class: "none" }, "not in this environment");
  return h("div", { class: "cell" },
    h("p", {}, revision(of.revision), " ", time(of.deliveredAt)),
    counts(of.counts),
    of.pending.length > 0 && h("p", { class: "hint" }, `next delivery: ${of.pending.join(", ")}`));
}

function attention(view) {
  const wrong = view.apps.filter((app) => app.problems.length > 0 || app.deleting);
  if (wrong.length === 0 && view.attention.length === 0) {
    return h("p", { class: "notice good" }, "Nothing waits, and nothing failed, among what you may see.");
  }
  const rows = view.attention.map((one) => [
    h("a", { href: workloadPath(one) }, `${one.namespace}/${one.name}`),
    h("a", { href: path("apps", one.app) }, one.app),
    stand(one.stand),
    runs(one),
    one.reason ?? "",
  ]);
  return [
    wrong.map((app) => h("div", {},
      h("h3", {}, h("a", { href: path("apps", app.name) }, app.name), app.deleting && " is being deleted"),
      problems(app.problems))),
    rows.length > 0 && table("Workloads that wait or failed", ["Workload", "App", "State", "Revision", "Why"], rows),
    view.unlisted > 0 && h("p", { class: "hint" }, `and ${view.unlisted} more: the apps' pages list them`),
  ];
}

export async function overview({ ask }) {
  const view = await ask("/api/overview");
  document.title = "Overview · Scout";
  if (view.apps.length === 0) {
    return [
      h("h1", {}, "Overview"),
      h("p", { class: "notice calm" }, "There is no App yet that you may read. Make one, and it appears here."),
    ];
  }
  const rows = view.apps.map((app) => [
    [h("a", { href: path("apps", app.name), class: "strong" }, app.name),
      h("p", { class: "hint" }, [app.strategy, app.store && `from ${app.store}`].filter(Boolean).join(", "))],
    ...view.environments.map((environment) => cell(app.environments[environment])),
  ]);
  return [
    h("h1", {}, "Overview"),
    h("section", { "aria-labelledby": "attention" }, h("h2", { id: "attention" }, "Needs attention"), attention(view)),
    h("section", { "aria-labelledby": "apps" }, h("h2", { id: "apps" }, "Apps"),
      table("Apps by environment", ["App", ...view.environments], rows)),
  ];
}
