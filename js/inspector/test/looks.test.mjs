// Every state at two widths and in two schemes: axe finds nothing serious, nothing scrolls sideways.

import assert from "node:assert/strict";
import { test } from "node:test";
import { accessible, fresh, page, painted, sample } from "./page.mjs";

for (const colorScheme of ["light", "dark"]) {
  for (const [name, width] of [["desktop", 1200], ["phone", 360]]) {
    test(`no serious finding and no sideways scroll: ${name}, ${colorScheme}`, async () => {
      await fresh({ colorScheme, viewport: { width, height: 800 } });
      const check = async (state) => {
        await accessible(`${state}-${name}-${colorScheme}`);
        const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(over <= 0, `${state} is ${over} pixels too wide`);
        const beyond = await page.locator(".scale").evaluateAll((all) => all.map(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth));
        assert.ok(beyond.every((pixels) => pixels <= 0), `${state}: the legend is ${beyond} pixels too wide`);
      };
      await check("empty");
      await sample("kv-cache");
      await painted();
      await check("kv");
      await sample("hybrid");
      await check("hybrid");
      await sample("broken");
      await check("error");
      await page.click("nav >> text=Packet");
      await page.fill("#packet", "FETHC|HR|return:A|p:9|aacp:1.2");
      await page.waitForSelector("mark");
      await check("packet");
      await page.click("nav >> text=Compare");
      for (const index of [0, 1]) await page.locator("text=Use a sample").nth(index).click();
      await page.waitForSelector("table");
      await check("compare");
    });
  }
}
