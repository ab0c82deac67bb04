// Frames of every kind, and every way in.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { decode, encode, encodeHybrid, encodeKvCache } from "../../../target/npm/avp-wasm/dist/inline.js";
import { drop, fresh, page, sample } from "./page.mjs";

const vectors = (name) => JSON.parse(readFileSync(new URL(`../../../test-vectors/avp/${name}.json`, import.meta.url), "utf8")).cases;

test("every vector of six versions opens without an error", async () => {
  for (const version of ["0.2.1", "0.3.2", "0.4.0", "0.4.2", "0.5.1", "0.6.2"]) {
    for (const { name, input } of vectors(`frames-${version}`)) {
      await drop(input.hex, name);
      await page.waitForSelector(".frame, .trouble");
      assert.equal(await page.locator(".title h2").textContent(), name);
      const alerts = await page.locator(".trouble code").allTextContents();
      // Bodies of these vectors are noise whatever the metadata calls them; only header, metadata and compression are the peers'.
      assert.ok(alerts.every((code) => ["truncated", "kv_shape", "unknown_enum", "bad_protobuf", "bad_utf8"].includes(code)), `${name}: ${alerts}`);
    }
  }
});

test("every broken frame shows its code", async () => {
  for (const { name, operation, input, error } of vectors("hostile")) {
    // A limit is the caller's, and the page has its own.
    if (operation !== "frame.decode" || !error || input.limit !== undefined || error.kind === "decompressed_too_large") continue;
    await drop(input.hex, `${name}.avp`);
    await page.waitForSelector(".trouble");
    assert.equal(await page.locator(".trouble code").first().textContent(), error.kind, name);
    assert.match(await page.locator(".trouble p").first().textContent(), new RegExp(`at byte ${error.offset}$`), name);
  }
});

test("the legend names the whole payload, though only its beginning is shown", async () => {
  const frame = encode({}, new Uint8Array(5000));
  await drop(Buffer.from(frame).toString("hex"));
  await page.waitForSelector(".frame");
  const { payloadOffset } = decode(frame);
  assert.match(await page.locator(".legend li").last().textContent(), new RegExp(`^payloadbytes ${payloadOffset}–${frame.length - 1}`));
  assert.match(await page.locator(".bytes + .note").textContent(), new RegExp(`the file has ${frame.length}`));
});

test("hybrid text is shown, with dialect and reason", async () => {
  await sample("hybrid");
  const text = await page.locator(".frame").textContent();
  assert.match(text, /Summarise the second chapter\./);
  assert.match(text, /hybrid is bit 0x02/);
  assert.match(text, /confidence_score0\.9(?!\d)/);
});

/** An empty frame. */
const EMPTY = "41560100" + "00000000" + "00000000";

test("a frame in the address opens, in hexadecimal and in base64 of either alphabet, and stays there", async () => {
  // Two bytes of payload that base64 writes with `+` and `/`, and its web alphabet with `-` and `_`.
  const bytes = Buffer.from(encode({ sessionId: "s" }, new Uint8Array([0xfb, 0xff, 0xfe])));
  for (const fragment of [`#hex=${EMPTY}`, `#frame=${bytes.toString("base64")}`, `#frame=${encodeURIComponent(bytes.toString("base64"))}`, `#frame=${bytes.toString("base64url")}`]) {
    await fresh({}, fragment);
    await page.waitForSelector(".frame >> text=the link's frame");
    assert.equal(await page.locator(".trouble").count(), 0);
    assert.equal(await page.evaluate(() => location.hash), fragment);
  }
});

test("a text or a file that is pasted anywhere on the page opens", async () => {
  const paste = (text, file) =>
    page.evaluate(([text, file]) => {
      const clipboardData = new DataTransfer();
      if (file) clipboardData.items.add(new File([text], file));
      else clipboardData.setData("text", text);
      document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
    }, [text, file]);
  await paste(EMPTY);
  await page.waitForSelector(".frame >> text=pasted text");
  await paste("FETCH|HR|return:A|aacp:1.2");
  await page.waitForSelector("#packet");
  assert.equal(await page.inputValue("#packet"), "FETCH|HR|return:A|aacp:1.2");
  await paste("AV", "cut.avp");
  await page.waitForSelector(".trouble >> text=truncated");
});

test("a text that is written and a packet that is dropped open", async () => {
  await page.fill("#text", "QVYBAAAAAAAAAAAA");
  await page.click("text=Open text");
  await page.waitForSelector("text=pasted text");
  await drop(Buffer.from("FETCH|HR|return:A|aacp:1.2\n").toString("hex"), "packet.txt");
  await page.waitForSelector("#packet");
});

test("a confidence that is no number is called so", async () => {
  const payload = Buffer.from(encodeHybrid([{ kind: "text", data: "Perhaps.", confidence: 0.5 }]));
  const [half, nan] = [0.5, NaN].map((value) => Buffer.from(new Float32Array([value]).buffer));
  nan.copy(payload, payload.indexOf(half));
  await drop(Buffer.from(encode({ mode: "hybrid" }, payload, { dialect: "0.2" })).toString("hex"));
  await page.waitForSelector("text=confidence not a number");
  assert.equal(await page.locator("blockquote").textContent(), "Perhaps.");
});

test("norms that are no numbers are counted, and called so", async () => {
  const shape = { numLayers: 1, numKvHeads: 1, headDim: 1, seqLen: 3, dtype: "float32" };
  const tensor = (...numbers) => new Uint8Array(new Float32Array(numbers).buffer);
  const payload = encodeKvCache(shape, [{ key: tensor(1, NaN, Infinity), value: tensor(NaN, NaN, NaN) }]);
  await drop(Buffer.from(encode({ payloadType: "kv_cache" }, payload)).toString("hex"));
  await page.waitForSelector("text=2 norms are infinite or not a number");
  await page.waitForSelector("text=Every other norm is 1.00.");
  await page.focus(".map canvas");
  await page.keyboard.press("ArrowRight");
  assert.equal(await page.locator("#heat-value").textContent(), "Layer 0, head 0, token 1: not a number");
  await page.check("input[value=value]");
  await page.waitForSelector("text=3 norms are infinite or not a number");
});

test("what is wrong within a payload is shown at its place in the file, or in what was unpacked", async () => {
  const shape = { numLayers: 1, numKvHeads: 1, headDim: 64, seqLen: 16, dtype: "float32" };
  const tensor = new Uint8Array(4096);
  const payload = encodeKvCache(shape, [{ key: tensor, value: tensor }]);
  payload[16] = 0x77;
  for (const compress of [false, true]) {
    const frame = encode({ payloadType: "kv_cache" }, payload, { compress });
    await drop(Buffer.from(frame).toString("hex"));
    await page.waitForSelector(".trouble");
    const place = compress ? "16 of the unpacked payload" : String(decode(frame).payloadOffset + 16);
    assert.match(await page.locator(".trouble p").textContent(), new RegExp(`, at byte ${place}$`));
    assert.equal(await page.locator(".byte.wrong").textContent(), "77");
  }
});

test("of many chunks the first are shown, of a long text the beginning, and the page says so", async () => {
  const long = { kind: "text", data: "é".repeat(1 << 16) + "end" };
  const frame = encode({ mode: "hybrid" }, encodeHybrid([long, ...Array.from({ length: 299 }, () => ({ kind: "text", data: "x" }))]), { dialect: "0.2" });
  await drop(Buffer.from(frame).toString("hex"));
  await page.waitForSelector("text=The first 256 of 300 chunks.");
  await page.waitForSelector("text=Only the beginning of this text is shown.");
  assert.equal(await page.locator("blockquote").first().textContent(), "é".repeat(1 << 15));
  assert.equal(await page.locator("blockquote").count(), 256);
});

test("what was sent is shown, be it zero or no number", async () => {
  const frame = encode({ mode: "hybrid", confidenceScore: 0.75 }, new Uint8Array(), { dialect: "0.2", checksum: false });
  const place = Buffer.from(frame).indexOf(Buffer.from(new Float32Array([0.75]).buffer));
  new DataView(frame.buffer, frame.byteOffset).setFloat32(place, NaN, true);
  await drop(Buffer.from(frame).toString("hex"));
  await page.waitForSelector("dt:text-is('confidence_score') + dd:text-is('not a number')");
  await drop(Buffer.from(encode({}, new Uint8Array())).toString("hex"));
  await page.waitForSelector("dt:text-is('payload_checksum') + dd:text-is('0x00000000')");
});

test("of a cache of many rows a sample is painted, and the page says so", async () => {
  const shape = { numLayers: 600, numKvHeads: 1, headDim: 1, seqLen: 1, dtype: "float32" };
  const tensor = new Uint8Array(4);
  const payload = encodeKvCache(shape, Array.from({ length: 600 }, () => ({ key: tensor, value: tensor })));
  await drop(Buffer.from(encode({ payloadType: "kv_cache" }, payload)).toString("hex"));
  await page.waitForSelector("text=Sampled: 512 of 600 rows, 1 of 1 tokens.");
});
