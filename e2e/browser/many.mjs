// A thousand workloads: how long each interaction takes until the browser has painted it.
import { check, given, inspect, open, run, signIn } from "./browser.mjs";

const url = given("DASHBOARD");
const LIMIT = 100;

/** Does something in the page and waits for the frame that shows it; returns the milliseconds. */
async function painted(page, act, argument) {
  return page.evaluate(async ([source, value]) => {
    const began = performance.now();
    const element = document.querySelector(source);
    if (value === null) element.click();
    else {
      element.value = value;
      element.dispatchEvent(new Event("input", { bubbles: true }));
    }
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    return performance.now() - began;
  }, [act, argument]);
}

await run(async (page) => {
  await signIn(page, url, given("TOKEN"));
  await open(page, `${url}/apps/checkout`);
  await page.waitForSelector("#workloads-production-rows tr");
  check((await page.textContent(".pager")).includes("of 1000"), "the page does not tell of a thousand workloads");
  const rows = await page.$$eval("#workloads-production-rows tbody tr", (all) => all.length);
  check(rows === 50, `${rows} rows are drawn at once`);
  const took = {
    "next page": await painted(page, "#workloads-production-on", null),
    "filter of one letter": await painted(page, "#workloads-production-filter", "9"),
    "filter of a name": await painted(page, "#workloads-production-filter", "workload-0999"),
  };
  check((await page.$$("#workloads-production-rows tbody tr")).length === 1, "the filter does not find the one workload");
  took["filter cleared"] = await painted(page, "#workloads-production-filter", "");
  const told = Object.entries(took).map(([what, ms]) => `${what} ${ms.toFixed(0)} ms`).join(", ");
  console.log(`1,000 workloads: ${told}`);
  for (const [what, ms] of Object.entries(took)) check(ms < LIMIT, `with 1,000 workloads, ${what} takes ${ms.toFixed(0)} ms`);

  // News keeps what is typed and where the focus is.
  await page.fill("#workloads-production-filter", "workload-0001");
  await page.evaluate(() => { window.rows = document.querySelector("#workloads-production-rows"); });
  await fetch(`${given("NEWS")}`, { method: "POST" });
  await page.waitForFunction(() => document.querySelector("#workloads-production-rows") !== window.rows);
  check((await page.inputValue("#workloads-production-filter")) === "workload-0001", "news empties the filter");
  check(await page.evaluate(() => document.activeElement?.id === "workloads-production-filter"), "news takes the focus away");
  await page.fill("#workloads-production-filter", "");
  await inspect(page, "many");
  await open(page, `${url}/`);
  await inspect(page, "attention");
});
