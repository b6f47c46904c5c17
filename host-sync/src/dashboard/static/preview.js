// What the policy would make of a manifest. The page gets the namespace's desired state (names, keys and revisions) and
// computes the rest itself: the manifest stays in the browser.
import { h } from "./dom.js";
import begin, { preview as compute } from "./policy_preview.js";

const EXAMPLE = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: api
spec:
  selector:
    matchLabels: {app: api}
  template:
    metadata:
      labels: {app: api}
    spec:
      containers:
      - name: main
        image: shop/api:1
`;
const OUTCOMES = { changed: ["changed", "good"], unchanged: ["unchanged", "calm"], refused: ["refused", "bad"] };
const SIGNS = { added: "+ ", removed: "- ", same: "  " };

let page = null;

function result(answer) {
  if (answer.error) return h("p", { class: "notice bad", role: "alert" }, answer.error);
  return answer.documents.map((one) => {
    const [word, tone] = OUTCOMES[one.outcome];
    return h("section", { "aria-label": one.subject },
      h("div", { class: "step-title" }, h("h3", {}, one.subject), h("span", { class: `badge ${tone}` }, word)),
      one.messages.map((message) => h("p", { class: `notice ${one.outcome === "refused" ? "bad" : "warn"}` }, message)),
      one.diff.length > 0 && h("pre", { class: "diff", tabindex: "0", role: "region", "aria-label": `Difference of ${one.subject}` },
        one.diff.map((line) => h("span", { class: line.kind }, SIGNS[line.kind] + line.text))));
  });
}

async function build(ask) {
  const [{ namespaces }] = await Promise.all([ask("/api/states"), begin({ module_or_path: "/static/policy_preview_bg.wasm" })]);
  if (namespaces.length === 0) {
    return { content: [h("h1", {}, "Preview"), h("p", { class: "notice calm" }, "There is no namespace with a desired state that you may read.")] };
  }
  const select = h("select", { id: "preview-namespace" }, namespaces.map((name) => h("option", { value: name }, name)));
  const manifest = h("textarea", { id: "preview-manifest", rows: 18, spellcheck: "false" });
  manifest.value = EXAMPLE;
  const output = h("div", { id: "preview-output", "aria-live": "polite", class: "field" });
  let state = null;
  const draw = () => {
    if (state) output.replaceChildren(...[result(JSON.parse(compute(manifest.value, select.value, state)))].flat());
  };
  const refresh = async () => {
    try {
      state = JSON.stringify(await ask(`/api/states/${encodeURIComponent(select.value)}`));
      draw();
    } catch (error) {
      output.replaceChildren(h("p", { class: "notice bad", role: "alert" }, error.message));
    }
  };
  let timer = 0;
  manifest.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(draw, 150);
  });
  select.addEventListener("change", refresh);
  await refresh();
  const content = [
    h("h1", {}, "Preview"),
    h("p", { class: "hint" }, "What the policy makes of a manifest, as if it were created now. Computed in this page: the manifest is sent nowhere."),
    h("div", { class: "two" },
      h("div", { class: "field" },
        h("label", { for: "preview-namespace" }, "Namespace"), select,
        h("label", { for: "preview-manifest" }, "Manifest (YAML or JSON)"), manifest),
      h("div", { class: "field" }, h("h2", {}, "Result"), output)),
  ];
  return { content, refresh };
}

export async function preview({ ask }) {
  document.title = "Preview · Scout";
  if (page) {
    await page.refresh?.();
    return null;
  }
  page = await build(ask);
  return page.content;
}
