// Files too large to be read whole, or to be read at once.

import assert from "node:assert/strict";
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { decode, encode, encodeHeader, encodeKvCache } from "../../../target/npm/avp-wasm/dist/inline.js";
import { dropFile, fresh, page, painted, sample } from "./page.mjs";

const place = mkdtempSync(join(tmpdir(), "inspector-"));
after(() => rmSync(place, { recursive: true }));

/** 200 MiB: 2 tensors of 16 layers of 16 heads. */
const SHAPE = { numLayers: 16, numKvHeads: 16, headDim: 64, seqLen: 1600, dtype: "float32" };
const kvHeader = (shape) => {
  const header = encodeKvCache({ ...shape, numLayers: 0, seqLen: 0 }, []);
  new DataView(header.buffer).setUint32(0, shape.numLayers, true);
  new DataView(header.buffer).setUint32(12, shape.seqLen, true);
  return header;
};
const tensorsLength = ({ numLayers, numKvHeads, headDim, seqLen }) => 2 * numLayers * numKvHeads * headDim * seqLen * 4;

/** A KV-cache of zeros as a file with holes, which takes no room on the disk. */
function largeFile(name, shape, checksum) {
  const path = join(place, name);
  const [header, zeros] = [kvHeader(shape), new Uint8Array(1 << 22)];
  const pieces = Array.from({ length: tensorsLength(shape) / zeros.length }, () => zeros);
  const head = Buffer.concat([encodeHeader({ payloadType: "kv_cache" }, [header, ...pieces], { checksum }), header]);
  const file = openSync(path, "w");
  writeSync(file, head);
  ftruncateSync(file, head.length + tensorsLength(shape));
  closeSync(file);
  return path;
}

/** The same, compressed to a few KiB: a zstd frame (RFC 8878) of the header as it is and of blocks that repeat a byte. */
function packedFile(name, shape) {
  const block = (last, type, size, byte) => [(size << 3) | (type << 1) | last, size >> 5, size >> 13, ...byte];
  const blocks = [block(0, 0, 17, kvHeader(shape))];
  for (let left = tensorsLength(shape); left > 0; left -= 1 << 17) blocks.push(block(left <= 1 << 17 ? 1 : 0, 1, Math.min(left, 1 << 17), [0]));
  const packed = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38, ...blocks.flat()]);
  const model = encode({ payloadType: "kv_cache" }, new Uint8Array(1000), { compress: true, checksum: false });
  const { payloadOffset } = decode(model);
  const frame = Buffer.concat([model.subarray(0, payloadOffset), packed]);
  frame.writeUInt32LE(frame.length - 12, 4);
  const path = join(place, name);
  writeFileSync(path, frame);
  return path;
}

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
