// Files too large to be read whole, or to be read at once.

import assert from "node:assert/strict";
import { test } from "node:test";
import { largeFile, packedFile, SHAPE, tensorsLength } from "./large.mjs";
import { dropFile, fresh, page, painted, sample } from "./page.mjs";

const opened = async () => {
  await page.waitForSelector(".frame");
  await painted();
};
const said = (term) => page.locator(`dt:text-is("${term}") + dd`).textContent();

test("a frame of 200 MB opens sampled, without freezing", async () => {
  await page.evaluate(() => {
    window.gaps = [];
    let last = performance.now();
    setInterval(() => (window.gaps.push(performance.now() - last), (last = performance.now())), 20);
  });
  await page.setInputFiles("#file", largeFile("large.avp", SHAPE, false));
  await page.waitForSelector("progress");
  await opened();
  assert.match(await page.locator(".picture").textContent(), /Sampled: 256 of 256 rows, 256 of 1600 tokens/);
  assert.equal(await said("Checksum"), "none sent");
  assert.ok(Math.max(...(await page.evaluate(() => window.gaps))) < 1000, "the page answers all the while");
});

test("a frame of 200 MB with a checksum opens by drop, and its checksum is compared", async () => {
  await dropFile(largeFile("summed.avp", SHAPE, true));
  await opened();
  assert.match(await said("Checksum"), /^right: 0x/);
});

test("a KV-cache of nearly 4 GiB, the largest that a frame holds, opens: what is not shown is not read", async () => {
  await page.setInputFiles("#file", largeFile("huge.avp", { ...SHAPE, numLayers: 3, numKvHeads: 2, headDim: 128, seqLen: 5 << 17 }, false));
  await opened();
  assert.match(await page.locator(".picture").textContent(), /Sampled: 6 of 6 rows, 256 of 655360 tokens/);
});

test("a compressed cache is unpacked once, for the frame and every picture of it", async () => {
  const shape = { ...SHAPE, numLayers: 32 };
  const asked = [];
  await fresh({}, "", async () => {
    await page.exposeFunction("asked", (...what) => asked.push(what));
    await page.addInitScript(() => {
      const { postMessage } = Worker.prototype;
      Worker.prototype.postMessage = function (message) {
        void window.asked(message.name, (message.what.payload ?? message.what.blob)?.size);
        postMessage.call(this, message);
      };
    });
  });
  const path = packedFile("packed.avp", shape);
  await page.setInputFiles("#file", path);
  await opened();
  await page.check("input[value=value]");
  await page.waitForSelector("[aria-label*='Norms of values']");
  assert.match(await said("Compression"), /^zstd, 12\.5 KiB from 400\.0 MiB$/);
  const unpacked = 17 + tensorsLength(shape);
  assert.deepEqual(asked.slice(1), [["heatMap", unpacked], ["heatMap", unpacked]]);
  assert.equal(asked[0][0], "open");
});

test("work that hears nothing can be stopped, and the page goes on", async () => {
  await fresh({}, "", () =>
    page.route("**/worker.js", (route) => route.fulfill({ contentType: "text/javascript", body: "onmessage = () => { for (;;); };" }), { times: 1 }),
  );
  await page.setInputFiles("#file", largeFile("stopped.avp", SHAPE, false));
  await page.waitForSelector("progress");
  await page.click("text=Cancel");
  await page.waitForSelector("#file");
  assert.equal(await page.locator(".trouble").count(), 0);
  await sample("hybrid");
  await page.waitForSelector(".frame");
});
