// Every state at two widths and in two schemes: axe finds nothing serious, nothing scrolls sideways.

import assert from "node:assert/strict";
import { test } from "node:test";
import { largeFile, SHAPE } from "./large.mjs";
import { accessible, dropFile, fresh, page, painted, sample } from "./page.mjs";

for (const colorScheme of ["light", "dark"]) {
  for (const [name, width] of [["desktop", 1200], ["phone", 360]]) {
    const look = { colorScheme, viewport: { width, height: 800 } };
    const check = async (state) => {
      await accessible(`${state}-${name}-${colorScheme}`);
      const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(over <= 0, `${state} is ${over} pixels too wide`);
      const beyond = await page.locator(".scale").evaluateAll((all) => all.map(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth));
      assert.ok(beyond.every((pixels) => pixels <= 0), `${state}: the legend is ${beyond} pixels too wide`);
    };

    test(`no serious finding and no sideways scroll: ${name}, ${colorScheme}`, async () => {
      await fresh(look);
      await check("empty");
      await sample("kv-cache");
      await painted();
      await page.hover(".map canvas", { position: { x: 40, y: 40 } });
      await check("kv");
      await sample("hybrid");
      await check("hybrid");
      await sample("broken");
      await check("error");
      await page.click("nav >> text=Packet");
      await page.waitForSelector(".right");
      await check("packet-valid");
      await page.fill("#packet", "FETHC|HR||return:A|p:9");
      await page.waitForSelector("mark");
      await check("packet");
      await page.click("nav >> text=Compare");
      await check("compare-empty");
      for (const index of [0, 1]) await page.locator("text=Use a sample").nth(index).click();
      await page.waitForSelector("table");
      await check("compare");
    });

    test(`no serious finding and no sideways scroll while a file is read, and when it is large: ${name}, ${colorScheme}`, async () => {
      const part = (progress) => `onmessage = ({ data: { id } }) => postMessage({ id, progress: ${progress} });`;
      const file = largeFile("large.avp", SHAPE, true);
      for (const [state, progress] of [["loading", 0.4], ["unpacking", null]]) {
        const halfway = (route) => route.fulfill({ contentType: "text/javascript", body: part(progress) });
        await fresh(look, "", () => page.route("**/worker.js", halfway, { times: 1 }));
        await dropFile(file);
        await page.waitForSelector(progress === null ? "progress:not([value])" : "progress[value]");
        await check(state);
      }
      await page.click("text=Cancel");
      await page.waitForSelector("#file");
      await dropFile(file);
      await painted();
      await check("large");
    });
  }
}
