// The page in a real Chromium: `node --test inspector/test/inspector.test.mjs`, with the page in the folder INSPECTOR and the
// browser in CHROMIUM. Screenshots go to the folder SCREENSHOTS, where that is set.

import assert from "node:assert/strict";
import { closeSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, afterEach, test } from "node:test";
import { chromium } from "playwright-core";
import { validatePacket } from "../../../target/npm/avp-wasm/dist/inline.js";
import { serve } from "../serve.mjs";

const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const vectors = (name) => JSON.parse(readFileSync(new URL(`../../../test-vectors/avp/${name}.json`, import.meta.url), "utf8")).cases;
const { CHROMIUM: executablePath, INSPECTOR: folder, SCREENSHOTS: shots } = process.env;
let browser, server, url, page, complaints;

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

/** A page of its own; what it complains of is collected. */
async function fresh(options, fragment = "") {
  if (page && !page.isClosed()) await page.context().close();
  complaints = [];
  page = await (await browser.newContext({ viewport: { width: 1200, height: 900 }, ...options })).newPage();
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => new URL(request.url()).origin === new URL(url).origin || request.url().startsWith("blob:") || complaints.push(request.url()));
  await page.goto(url + fragment);
}

/** Drops a file on the page. */
const drop = (hex, name = "dropped.avp") =>
  page.evaluate(([hex, name]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16))], name));
    document.querySelector("main").replaceChildren();
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
  }, [hex, name]);
const sample = async (name) => {
  await page.click(`[data-sample="${name}"]`);
  await page.waitForSelector(".frame, .trouble");
};
const painted = () => page.waitForSelector(".map canvas");

async function accessible(state) {
  if (shots) await page.screenshot({ path: join(shots, `${state}.png`), fullPage: true });
  // Through the debugger, since the policy lets no script of another place in.
  await page.evaluate(readFileSync(axe, "utf8"));
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const grave = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  assert.deepEqual(grave.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]), [], state);
}

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

test("a packet's findings are underlined at their spans, and a fix mends it", async () => {
  await fresh({}, "#packet=" + encodeURIComponent("FETHC|HR|return:😀-Agent|p:9|aacp:1.2"));
  await page.waitForSelector(".findings button");
  assert.deepEqual(await page.locator("mark").allTextContents().then((all) => all.slice(0, 1)), ["FETHC"]);
  assert.ok((await page.locator("mark").allTextContents()).some((text) => text.includes("9")));
  await accessible("packet");
  await page.locator(".findings button").first().click();
  await page.waitForFunction(() => document.querySelector("#packet").value.startsWith("FETCH|"));
  assert.notEqual(await page.locator(".english").textContent(), "");
  await page.fill("#packet", "FETCH|HR|return:HR-Agent|p:2|aacp:1.2");
  await page.waitForFunction(() => document.querySelector("#verdict").textContent === "Valid");
});

test("every packet of the vectors has the verdict that the package gives", async () => {
  const { packets } = JSON.parse(readFileSync(new URL("../../../test-vectors/aacp/inputs.json", import.meta.url), "utf8"));
  await page.click("nav >> text=Packet");
  const lines = packets.filter((one) => !/[\n\r]/.test(one));
  const shown = await page.evaluate(async (lines) => {
    const [input, verdict, marks] = ["#packet", "#verdict", ".marks"].map((name) => document.querySelector(name));
    const shown = [];
    for (const line of lines) {
      input.value = line;
      verdict.textContent = "";
      input.dispatchEvent(new Event("input"));
      while (verdict.textContent === "") await new Promise((next) => setTimeout(next, 1));
      shown.push([marks.textContent, verdict.textContent === "Valid"]);
    }
    return shown;
  }, lines);
  assert.deepEqual(shown, lines.map((line) => [line, validatePacket(line).valid]));
});

test("a link, a pasted text and a dropped packet open", async () => {
  await fresh({}, "#hex=4156010000000000" + "00000000");
  await page.waitForSelector(".frame");
  await page.fill("#text", "QVYBAAAAAAAAAAAA");
  await page.click("text=Open text");
  await page.waitForSelector("text=pasted text");
  await drop(Buffer.from("FETCH|HR|return:A|aacp:1.2\n").toString("hex"), "packet.txt");
  await page.waitForSelector("#packet");
});

test("hybrid text is shown, with dialect and reason", async () => {
  await sample("hybrid");
  const text = await page.locator(".frame").textContent();
  assert.match(text, /Summarise the second chapter\./);
  assert.match(text, /hybrid is bit 0x02/);
  assert.match(text, /confidence_score0\.9(?!\d)/);
});

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
