// Ways through the page, as people take them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { page, painted } from "./page.mjs";

test("a journey by keyboard alone: open, read a value, change the view", async () => {
  for (let step = 0; step < 30; step++) {
    await page.keyboard.press("Tab");
    if (await page.evaluate(() => document.activeElement.dataset.sample === "kv-cache")) break;
  }
  await page.keyboard.press("Enter");
  await painted();
  for (let step = 0; step < 30; step++) {
    await page.keyboard.press("Tab");
    if (await page.evaluate(() => document.activeElement.dataset.field === "3")) break;
  }
  assert.equal(await page.locator(".byte.lit").count(), 4);
  for (let step = 0; step < 30; step++) {
    await page.keyboard.press("Tab");
    if (await page.evaluate(() => document.activeElement.tagName === "CANVAS")) break;
  }
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowDown");
  assert.match(await page.locator("#heat-value").textContent(), /^Layer 0, head 1, token 1: \d/);
});
