// One chromium, and what every test does with a page.
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";

const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** An environment variable that the test sets. */
export function given(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: e2e/tests/dashboard.rs runs this`);
  return value;
}

/** Fails with a sentence. */
export function check(holds, sentence) {
  if (!holds) throw new Error(sentence);
}

/** Runs a test with a fresh browser; every error of a page fails it. */
export async function run(test) {
  const profile = mkdtempSync(join(tmpdir(), "scout-browser-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.SCOUT_CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    // The page's own policy must hold: nothing is bypassed.
    bypassCSP: false,
    viewport: { width: 1280, height: 800 },
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync"],
  });
  const errors = [];
  const watch = (page) => {
    page.on("pageerror", (error) => errors.push(`${page.url()}: ${error.message}`));
    page.on("console", (message) => message.type() === "error" && errors.push(`${page.url()}: ${message.text()}`));
    page.on("request", (request) => {
      const url = new URL(request.url());
      if (!["127.0.0.1", "localhost"].includes(url.hostname) && url.protocol.startsWith("http")) errors.push(`it asked for ${url}`);
    });
  };
  context.on("page", watch);
  const page = context.pages()[0] ?? (await context.newPage());
  watch(page);
  page.setDefaultTimeout(60_000);
  try {
    await test(page, context, errors);
    check(errors.length === 0, `the pages reported errors:\n${errors.join("\n")}`);
  } catch (error) {
    mkdirSync(given("SCREENSHOTS"), { recursive: true });
    await page.screenshot({ path: join(given("SCREENSHOTS"), "failure.png"), fullPage: true }).catch(() => {});
    console.error(error.stack, errors.join("\n"));
    process.exitCode = 1;
  } finally {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  }
}

/** Signs in by the form, with the keyboard only. */
export async function signIn(page, url, token) {
  await page.goto(`${url}/`);
  check(page.url().endsWith("/sign-in"), `without a session one lands at ${page.url()}, not at /sign-in`);
  await page.keyboard.insertText(token);
  await page.keyboard.press("Enter");
  await page.waitForSelector("#live[data-state=on]");
}

/** Opens a page and waits until it is drawn and live. */
export async function open(page, url) {
  await page.goto(url);
  await page.waitForSelector("#main:not([aria-busy])");
  await page.waitForSelector("#live[data-state=on]");
}

/** The page in both themes and both widths: no violation, no horizontal scroll, everything in reach of Tab, a picture each. */
export async function inspect(page, name) {
  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme });
    for (const width of [1280, 360]) {
      await page.setViewportSize({ width, height: 800 });
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      check(overflow <= 0, `${name} scrolls sideways by ${overflow} px at ${width} px`);
      // Evaluated by the debugger, which the page's policy does not concern.
      await page.evaluate(axeSource);
      const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
      const told = violations.map((one) => `${one.id}: ${one.help}\n    ${one.nodes.map((node) => node.html).join("\n    ")}`);
      check(violations.length === 0, `${name} in ${scheme} at ${width} px has violations:\n  ${told.join("\n  ")}`);
      await page.screenshot({ path: join(given("SCREENSHOTS"), `${name}-${scheme}-${width}.png`), fullPage: true });
    }
  }
  await page.setViewportSize({ width: 1280, height: 800 });
  await reach(page, name);
}

/** Every link, button and field gets the focus by Tab, and shows it. */
async function reach(page, name) {
  const wanted = await page.evaluate(() => {
    document.activeElement?.blur();
    const seen = (element) => element.checkVisibility() && !element.disabled;
    return [...document.querySelectorAll("a[href], button, input, textarea, select")].filter(seen).length;
  });
  const reached = new Set();
  for (let press = 0; press < wanted + 5; press += 1) {
    await page.keyboard.press("Tab");
    const found = await page.evaluate(() => {
      const element = document.activeElement;
      if (!element || element === document.body) return null;
      const all = [...document.querySelectorAll("a[href], button, input, textarea, select")];
      return { index: all.indexOf(element), outline: getComputedStyle(element).outlineStyle, html: element.outerHTML.slice(0, 120) };
    });
    if (!found || found.index < 0) continue;
    check(found.outline !== "none", `${name}: the focus does not show on ${found.html}`);
    reached.add(found.index);
  }
  check(reached.size >= wanted, `${name}: Tab reaches ${reached.size} of ${wanted} controls`);
}
