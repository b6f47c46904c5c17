// Which page this is, who looks at it, and when to draw it again.
import { h, show } from "./dom.js";
import { keepTimes } from "./format.js";
import { follow } from "./live.js";
import { overview } from "./overview.js";
import { app } from "./app.js";
import { workload } from "./workload.js";
import { stores } from "./stores.js";
import { audit } from "./audit.js";

const main = document.getElementById("main");
let session = null;

/** Asks host-sync; without a session, goes to sign in. */
async function ask(path, options) {
  const response = await fetch(path, options);
  if (response.status === 401) {
    location.assign("/sign-in");
    return new Promise(() => {});
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ?? `host-sync answered ${response.status}`);
  return answer;
}

/** The one kind of write. */
const send = (path) => ask(path, { method: "POST", headers: { "x-scout-csrf": session.csrf } });

const parts = location.pathname.split("/").filter(Boolean).map(decodeURIComponent);
const PAGES = { "": overview, apps: app, workloads: workload, stores, audit };

async function page() {
  if (parts[0] !== "preview") return PAGES[parts[0] ?? ""];
  // Only here: it brings WebAssembly, which no other page may run.
  const { preview } = await import("./preview.js");
  return preview;
}

function setTheme(theme) {
  if (theme) {
    document.documentElement.dataset.theme = theme;
    localStorage.setItem("scout-theme", theme);
  } else {
    delete document.documentElement.dataset.theme;
    localStorage.removeItem("scout-theme");
  }
  const name = theme === "dark" ? "dark" : theme === "light" ? "light" : "system";
  document.getElementById("theme").textContent = `Theme: ${name}`;
}

async function begin() {
  const order = [null, "dark", "light"];
  let theme = document.documentElement.dataset.theme ?? null;
  setTheme(theme);
  document.getElementById("theme").addEventListener("click", () => {
    theme = order[(order.indexOf(theme) + 1) % order.length];
    setTheme(theme);
  });
  for (const link of document.querySelectorAll("#pages a")) {
    if (link.pathname === "/" + (parts[0] === undefined ? "" : parts[0])) link.setAttribute("aria-current", "page");
  }
  session = await ask("/api/session");
  document.getElementById("user").textContent = session.user;
  document.getElementById("audit-link").hidden = !session.audit;
  document.getElementById("preview-link").hidden = !session.preview;
  document.getElementById("sign-out").addEventListener("click", async () => {
    await send("/api/sign-out");
    location.assign("/sign-in");
  });
  const draw = await page();
  keepTimes();

  let drawing = false;
  let again = false;
  const redraw = async () => {
    if (drawing) {
      again = true;
      return;
    }
    drawing = true;
    try {
      const content = await draw({ parts, ask, send });
      if (content) show(main, content);
    } catch (error) {
      show(main, h("h1", {}, "Scout"), h("p", { class: "notice bad", role: "alert" }, error.message));
    }
    main.removeAttribute("aria-busy");
    drawing = false;
    if (again) {
      again = false;
      redraw();
    }
  };
  follow(document.getElementById("live"), redraw);
}

begin().catch((error) => show(main, h("p", { class: "notice bad", role: "alert" }, error.message)));
