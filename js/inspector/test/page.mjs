// The page in a real Chromium, for the tests beside this file: they find the page in the folder INSPECTOR, the browser in CHROMIUM.
// Screenshots go to the folder SCREENSHOTS, where that is set.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, afterEach, before, beforeEach } from "node:test";
import { chromium } from "playwright-core";
import { serve } from "../serve.mjs";

const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const { CHROMIUM: executablePath, INSPECTOR: folder, SCREENSHOTS: shots } = process.env;
let browser, server, url, complaints;
/** The page of the test that runs. */
export let page;

before(async () => {
  ({ server, url } = await serve(folder));
  browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
});
after(async () => {
  await browser?.close();
  server?.close();
});
beforeEach(() => fresh({}));
afterEach(async () => {
  await page.context().close();
  assert.deepEqual(complaints, [], "nothing is written to the console, and the policy is kept");
});

/** A page of its own, to which `prepare` sees before it loads; what it complains of is collected. */
export async function fresh(options, fragment = "", prepare = () => {}) {
  if (page && !page.isClosed()) await page.context().close();
  complaints = [];
  page = await (await browser.newContext({ viewport: { width: 1200, height: 900 }, ...options })).newPage();
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => new URL(request.url()).origin === new URL(url).origin || request.url().startsWith("blob:") || complaints.push(request.url()));
  await prepare();
  await page.goto(url + fragment);
}

/** Drops a file on the page. */
export const drop = (hex, name = "dropped.avp") =>
  page.evaluate(([hex, name]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16))], name));
    document.querySelector("main").replaceChildren();
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
  }, [hex, name]);
/** Drops a file that lies at `path`, which nobody has to hold in memory. */
export async function dropFile(path) {
  await page.evaluate(() => {
    document.body.append(Object.assign(document.createElement("input"), { type: "file", id: "carrier" }));
  });
  await page.setInputFiles("#carrier", path);
  await page.evaluate(() => {
    const carrier = document.querySelector("#carrier");
    const transfer = new DataTransfer();
    transfer.items.add(carrier.files[0]);
    carrier.remove();
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
  });
}
export const sample = async (name) => {
  // What is shown must not be taken for what comes.
  await page.evaluate(() => document.querySelector(".frame, .trouble")?.remove());
  await page.click(`[data-sample="${name}"]`);
  await page.waitForSelector(".frame, .trouble");
};
export const painted = () => page.waitForSelector(".map canvas");

export async function accessible(state) {
  if (shots) await page.screenshot({ path: join(shots, `${state}.png`), fullPage: true });
  // Through the debugger, since the policy lets no script of another place in.
  await page.evaluate(readFileSync(axe, "utf8"));
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const grave = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  assert.deepEqual(grave.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]), [], state);
}
