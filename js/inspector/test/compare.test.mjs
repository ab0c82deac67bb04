// Two frames beside each other.

import assert from "node:assert/strict";
import { test } from "node:test";
import { encode, encodeKvCache } from "../../../target/npm/avp-wasm/dist/inline.js";
import { accessible, fresh, page } from "./page.mjs";

const SHAPE = { numLayers: 2, numKvHeads: 1, headDim: 4, seqLen: 3, dtype: "float32" };
/** A KV-cache of `shape`, all of whose numbers are `value`, with this metadata. */
function cache(metadata, value = 1, shape = SHAPE) {
  const tensor = new Uint8Array(new Float32Array(shape.numKvHeads * shape.seqLen * shape.headDim).fill(value).buffer);
  const layers = Array.from({ length: shape.numLayers }, () => ({ key: tensor, value: tensor }));
  return encode({ payloadType: "kv_cache", ...metadata }, encodeKvCache(shape, layers));
}
/** Chooses two frames in the view; `null` leaves a side as it is. */
async function choose(...frames) {
  for (const [index, bytes] of frames.entries()) {
    const file = bytes && { name: `${index}.avp`, mimeType: "", buffer: Buffer.from(bytes) };
    if (file) await page.locator(".compare input[type=file]").nth(index).setInputFiles(file);
  }
}

test("two frames are compared: identity, rule, difference by layer", async () => {
  await page.click("text=Compare");
  for (const index of [0, 1]) await page.locator("text=Use a sample").nth(index).click();
  await page.waitForSelector("table");
  const rows = await page.locator("tbody tr").allTextContents();
  assert.equal(rows.length, 6);
  assert.match(rows[0], /^0 0\.000? ?0\.00/);
  assert.doesNotMatch(rows[5], /^5 0\.00 ?0\.00/);
  const hello = (hash) => JSON.stringify({ agent_id: "a", avp_version: "0.6.2", identity: { model_family: "qwen2", model_hash: hash.repeat(64), hidden_dim: 896, num_layers: 24 }, capabilities: {} });
  for (const index of [0, 1]) await page.locator("textarea").nth(index).fill(hello("a"));
  await page.locator("textarea").nth(1).blur();
  await page.waitForSelector("text=hash_match");
  await accessible("compare");
});

test("frames that name the same model hash match by it, whatever else they say; a family and a shape match without one", async () => {
  await page.click("nav >> text=Compare");
  const rule = () => page.locator("dt:text-is('Rule') + dd").textContent();
  const [hash, family] = ["a".repeat(64), "qwen2"];
  await choose(cache({ modelId: "a", extra: { model_hash: hash } }), cache({ modelId: "b", extra: { model_hash: hash } }));
  await page.waitForSelector("text=hash_match");
  await choose(null, cache({ modelId: "a", extra: { model_hash: "b".repeat(64) } }));
  await page.waitForSelector("text=json_fallback");
  const one = { hiddenDim: 4, numLayers: 2, extra: { model_family: family } };
  await choose(cache(one), cache(one));
  await page.waitForSelector("text=structural_match");
  assert.match(await rule(), /^structural_match: Same family and same shape/);
});

test("a difference that is no number is called so", async () => {
  await page.click("nav >> text=Compare");
  await choose(cache({}), cache({}, NaN));
  await page.waitForSelector("table");
  assert.match(await page.locator("tbody tr").first().textContent(), /^0 not a numbernot a number not a numbernot a number$/);
});

test("of two comparisons the one asked for last is shown, whichever ends first", async () => {
  await fresh({}, "#compare", () =>
    page.addInitScript(() => {
      // Holds the first comparison back until the second has come, or the first is stopped for good.
      const { set } = Object.getOwnPropertyDescriptor(Worker.prototype, "onmessage");
      let held = null;
      window.compared = 0;
      Object.defineProperty(Worker.prototype, "onmessage", {
        set(listener) {
          set.call(this, (event) => {
            if (!event.data.answer?.resolution) return listener(event);
            window.compared += 1;
            if (window.compared === 1) return void (held = () => listener(event));
            listener(event);
            held?.();
            held = null;
          });
        },
      });
    }),
  );
  await choose(cache({ modelId: "first" }), cache({ modelId: "second" }));
  await page.waitForFunction(() => window.compared === 1);
  await choose(null, cache({ modelId: "third" }));
  await page.waitForFunction(() => window.compared === 2);
  await page.waitForSelector("text=third");
  assert.doesNotMatch(await page.locator(".compare").textContent(), /second/);
});

test("who stops the reading of another frame keeps the one before", async () => {
  await fresh({}, "#compare", () =>
    page.addInitScript(() => {
      // A worker that is not asked gives no answer.
      const { postMessage } = Worker.prototype;
      Worker.prototype.postMessage = function (message, ...rest) {
        if (!(window.stuck && message.name === "open")) postMessage.call(this, message, ...rest);
      };
    }),
  );
  await choose(cache({ modelId: "first" }), cache({ modelId: "second" }));
  await page.waitForSelector("table");
  await page.evaluate(() => (window.stuck = true));
  await choose(null, cache({ modelId: "third" }));
  await page.click("text=Cancel");
  await page.waitForSelector(".chosen >> nth=1 >> text=1.avp");
  assert.match(await page.locator(".compare").textContent(), /second/);
});

test("a damaged frame is compared as far as it goes, and is said to be damaged", async () => {
  await page.click("nav >> text=Compare");
  const damaged = cache({ modelId: "damaged" });
  damaged[damaged.length - 1] ^= 1;
  await choose(cache({ modelId: "whole" }), damaged);
  await page.waitForSelector("table");
  assert.equal(await page.locator(".trouble code").textContent(), "checksum_mismatch");
  await choose(null, new Uint8Array(20));
  await page.waitForSelector("text=Choose two frames");
  assert.equal(await page.locator(".trouble code").textContent(), "bad_magic");
});
