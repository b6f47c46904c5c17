// One App: revisions in time, workloads, what is pending, and the redeploy button.
import { h, path } from "./dom.js";
import { counts, paged, problems, revision, runs, stand, time, workloadPath } from "./format.js";

/** What the button last came to: it outlives news. */
let said = null;

function redeploy(view, send) {
  if (!view.mayRedeploy) {
    return h("p", { class: "hint" }, "A redeploy takes the right to update this App.");
  }
  const result = h("p", { class: `hint ${said?.failed ? "bad-text" : ""}`, role: "status", id: "redeploy-result" }, said?.text ?? "");
  const button = h("button", { type: "button", class: "primary", id: "redeploy" }, "Redeploy");
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await send(`/api${path("apps", view.name)}/redeploy`);
      said = { text: `Asked for at ${new Date().toLocaleTimeString()}. host-sync reads the store and delivers now.` };
    } catch (error) {
      said = { text: error.message, failed: true };
    }
    result.textContent = said.text;
    result.classList.toggle("bad-text", Boolean(said.failed));
    button.disabled = false;
    button.focus();
  });
  return h("div", { class: "action" }, button, result);
}

function timeline(namespace) {
  if (namespace.revisions.length === 0) return h("p", { class: "none" }, "Nothing was delivered here yet.");
  return h("ol", { class: "timeline", "aria-label": `Revisions in ${namespace.name}, newest first` },
    namespace.revisions.map((one) => h("li", { class: one.current ? "current" : "" },
      revision(one.revision),
      h("span", {}, one.current
        ? ["delivered ", time(namespace.deliveredAt)]
        : one.supersededAt ? ["superseded ", time(one.supersededAt)] : "kept"),
      one.secrets > 1 && h("span", { class: "hint" }, `${one.secrets} Secrets`))));
}

function environment(app, of) {
  const facts = [
    `source ${of.source}`,
    of.mode === "Operator" ? "Operator mode: its user wires the Secret" : null,
    `reload ${of.reload}`,
    of.keys ? `keys ${of.keys.join(", ")}` : "every key",
  ].filter(Boolean);
  const key = `workloads-${of.name}`;
  return h("section", { class: "card", "aria-labelledby": `environment-${of.name}` },
    h("h2", { id: `environment-${of.name}` }, of.name),
    h("p", { class: "hint" }, facts.join(" · ")),
    of.pending.length > 0 && h("p", { class: "notice warn" }, `At the next delivery: ${of.pending.join(", ")}`),
    counts(of.counts),
    h("h3", {}, "Revisions"),
    of.namespaces.length === 0 && h("p", { class: "none" }, "No namespace that you may read is linked."),
    h("div", { class: "namespaces" }, of.namespaces.map((namespace) => h("div", {},
      h("h4", {}, namespace.name),
      h("p", { class: "hint" }, [namespace.strategy, namespace.reload && `reload ${namespace.reload}`].filter(Boolean).join(", ")),
      timeline(namespace)))),
    of.hiddenNamespaces > 0 && h("p", { class: "hint" }, `Linked, and not for you to read: ${of.hiddenNamespaces} more ${of.hiddenNamespaces === 1 ? "namespace" : "namespaces"}`),
    h("h3", {}, "Workloads"),
    of.workloads.length === 0
      ? h("p", { class: "none" }, "Nothing is delivered to a workload that you may read.")
      : paged(key, `Workloads of ${app} in ${of.name}`, ["Workload", "State", "Runs", "Why"], of.workloads,
        (one) => `${one.namespace}/${one.name} ${one.stand} ${one.attached ?? ""} ${one.reason ?? ""}`,
        (one) => [
          h("a", { href: workloadPath(one) }, `${one.namespace}/${one.name}`),
          stand(one.stand),
          runs(one),
          one.reason ?? "",
        ]));
}

export async function app({ parts, ask, send }) {
  const view = await ask(`/api${path("apps", parts[1])}`);
  document.title = `${view.name} · Scout`;
  const facts = [view.strategy, view.mountPath && `in ${view.mountPath}`].filter(Boolean).join(" ");
  return [
    h("div", { class: "title" },
      h("div", {}, h("h1", {}, view.name),
        h("p", { class: "hint" }, facts, view.store && [", from SecretStore ", h("a", { href: "/stores" }, view.store)])),
      redeploy(view, send)),
    view.deleting && h("p", { class: "notice warn" },
      `Its deletion was asked for. ${view.heldBy.length ? "It is held by: " + view.heldBy.join("; ") : ""}`),
    problems(view.problems),
    view.environments.map((of) => environment(view.name, of)),
  ];
}
