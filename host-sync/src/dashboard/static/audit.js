// The audit trail: who asked, what was done, which revision, what came of it.
import { h, path } from "./dom.js";
import { paged, revision, time } from "./format.js";

export async function audit({ ask }) {
  const { lines } = await ask("/api/audit");
  document.title = "Audit · Scout";
  return [
    h("h1", {}, "Audit"),
    h("p", { class: "hint" }, "The newest lines of the audit trail that you may read. ",
      h("code", {}, "host-sync audit verify"), " checks that none was changed or removed."),
    lines.length === 0
      ? h("p", { class: "none" }, "Nothing yet.")
      : paged("audit", "What host-sync did, newest first", ["When", "What", "App", "To", "Revision", "Why"], lines,
        (one) => `${one.what} ${one.app} ${one.environment ?? ""} ${one.to.join(" ")} ${one.revision ?? ""} ${one.why ?? ""} ${one.failed ?? "done"}`,
        (one) => [
          time(Math.floor(Date.parse(one.time) / 1000)),
          [one.what, " ", one.failed && h("span", { class: "badge bad" }, "failed")],
          [h("a", { href: path("apps", one.app) }, one.app), one.environment && ` in ${one.environment}`],
          one.to.join(", "),
          one.revision ? revision(one.revision) : "",
          [one.why ?? "", one.failed && h("p", { class: "bad-text" }, one.failed)],
        ]),
  ];
}
