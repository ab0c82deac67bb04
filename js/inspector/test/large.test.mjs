// Files too large to be read whole, or to be read at once.

import assert from "node:assert/strict";
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { page, painted } from "./page.mjs";

test("a frame of 200 MB opens sampled, without freezing, and can be stopped", async () => {
  const place = mkdtempSync(join(tmpdir(), "inspector-"));
  try {
    const path = join(place, "large.avp");
    largeFrame(path);
    await page.evaluate(() => {
      window.gaps = [];
      let last = performance.now();
      setInterval(() => (window.gaps.push(performance.now() - last), (last = performance.now())), 20);
    });
    await page.setInputFiles("#file", path);
    await page.waitForSelector("progress");
    await page.click("text=Cancel");
    await page.waitForSelector("#file");
    await page.setInputFiles("#file", path);
    await page.waitForSelector(".frame");
    await painted();
    assert.match(await page.locator(".picture").textContent(), /Sampled: 256 of 256 rows, 256 of 1600 tokens/);
    assert.ok(Math.max(...(await page.evaluate(() => window.gaps))) < 1000, "the page answers all the while");
  } finally {
    rmSync(place, { recursive: true });
  }
});

/** 16 layers of 16 heads, 1600 tokens of 64 numbers: a file with holes, whose one tensor is not zero. */
function largeFrame(path) {
  const file = openSync(path, "w");
  const body = 17 + 2 * 16 * 16 * 1600 * 64 * 4;
  const metadata = Buffer.from([0x38, 1]);
  const head = Buffer.alloc(12 + metadata.length + 17);
  head.write("AV");
  head.set([1, 4], 2);
  head.writeUInt32LE(body + metadata.length, 4);
  head.writeUInt32LE(metadata.length, 8);
  metadata.copy(head, 12);
  [16, 16, 64, 1600].forEach((value, index) => head.writeUInt32LE(value, 14 + 4 * index));
  writeSync(file, head);
  ftruncateSync(file, 14 + body);
  closeSync(file);
}
