// The story on a real cluster: sign in, a value changes in the store and the page follows by itself, redeploy, sign out.
import { writeFileSync, renameSync } from "node:fs";
import { check, given, inspect, open, run, signIn } from "./browser.mjs";

const url = given("DASHBOARD");

function save(text) {
  const file = given("STORE_FILE");
  writeFileSync(`${file}.part`, text);
  renameSync(`${file}.part`, file);
}

/** Everything that host-sync answered. */
const answers = [];

await run(async (page, _, errors) => {
  page.on("response", (response) => {
    // A stream of news has no end to wait for.
    if (!response.url().endsWith("/api/events")) answers.push(response.text().catch(() => ""));
  });
  // A token that is nobody's is refused in a sentence, and the page stays.
  await page.goto(`${url}/sign-in`);
  await inspect(page, "sign-in");
  await page.fill("#token", "guess");
  await page.click("button[type=submit]");
  await page.waitForSelector("#problem:not([hidden])");
  check((await page.textContent("#problem")).includes("kubectl create token"), "a refused token is not told how to get one");
  // Chromium tells of the 401 that was meant.
  errors.splice(0);

  await signIn(page, url, given("TOKEN"));
  await page.waitForSelector("text=checkout");
  await inspect(page, "overview");

  await page.click("a.strong:has-text('checkout')");
  await page.waitForSelector(".timeline .current");
  const before = await page.textContent(".timeline .current .revision");
  await page.waitForSelector(".counts:has-text('2 ready')");

  // Nothing is reloaded: a mark on the window stays.
  await page.evaluate(() => { window.same = true; });
  save("TOKEN=second-value-never-shown\n");
  const began = Date.now();
  await page.waitForFunction((old) => {
    const now = document.querySelector(".timeline .current .revision")?.textContent;
    return now && now !== old;
  }, before);
  console.log(`the page showed the new revision ${((Date.now() - began) / 1000).toFixed(1)} s after the file was saved`);
  check(await page.evaluate(() => window.same === true), "the page was loaded anew");
  await page.waitForSelector(".counts:has-text('2 ready')");
  check((await page.textContent(".timeline")).includes("superseded"), "the timeline forgets the earlier revision");
  await inspect(page, "app");

  await page.focus("#redeploy");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#redeploy-result:has-text('delivers now')");

  await page.click("a:has-text('shop/api')");
  await page.waitForSelector(".chain .step >> nth=4");
  const steps = await page.$$eval(".chain .step", (all) => all.map((step) => step.className));
  check(steps.length === 5 && steps.every((name) => name.includes("done")), `the chain is not done to its end: ${steps}`);
  await inspect(page, "workload");

  await open(page, `${url}/stores`);
  check((await page.textContent("main")).includes("ready"), "the store is not ready");
  await inspect(page, "stores");

  await page.click("a:has-text('Audit')");
  await page.waitForSelector("td:has-text('asked by scout-dashboard/system:serviceaccount:shop:viewer')");
  await page.waitForSelector("#live[data-state=on]");
  await inspect(page, "audit");

  await open(page, `${url}/preview`);
  await page.waitForSelector(".diff .added");
  check((await page.textContent(".diff")).includes("secretKeyRef"), "the preview shows no secretKeyRef");
  check((await page.$$(".diff .removed")).length === 0, "the preview removes something");
  const sent = [];
  page.on("request", (request) => sent.push(request.url()));
  await page.fill("#preview-manifest", "kind: [");
  await page.waitForSelector("#preview-output:has-text('not YAML')");
  await page.fill("#preview-manifest", `apiVersion: apps/v1
kind: Deployment
metadata: {name: api, annotations: {scout.commandk.dev/mutation-mode: wrong}}
spec: {selector: {matchLabels: {app: api}}, template: {spec: {containers: [{name: main, image: x}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec: {selector: {matchLabels: {app: web}}, template: {spec: {containers: [{name: main, image: x}]}}}
`);
  await page.waitForSelector("#preview-output:has-text('ignore-and-detach')");
  await page.waitForSelector(".diff .added");
  check(sent.length === 0, `the preview asked for ${sent}`);
  await inspect(page, "preview");

  const told = (await Promise.all(answers)).join("\n");
  check(told.includes("shop"), "nothing was looked at");
  check(!told.includes("never-shown"), "an answer holds a value");
  check(!told.includes('"backoffice"'), "an answer tells of a namespace that the viewer may not read");

  // The theme is chosen by hand, too, and kept.
  await page.click("#theme");
  check(await page.evaluate(() => document.documentElement.dataset.theme === "dark"), "the theme button does not choose dark");
  await page.reload();
  check(await page.evaluate(() => document.documentElement.dataset.theme === "dark"), "the chosen theme is forgotten");

  await page.waitForSelector("#live[data-state=on]");
  await page.click("#sign-out");
  await page.waitForURL("**/sign-in");
  await page.goto(`${url}/`);
  check(page.url().endsWith("/sign-in"), "after signing out the overview is still there");
});
