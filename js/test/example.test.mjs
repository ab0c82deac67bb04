// The example as its README has it, in a project that has the packed package: the orchestrator, and its page in Chromium.

import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { after, before } from "node:test";
import { pathToFileURL } from "node:url";

const folder = process.env.EXAMPLE;
const load = (file) => import(pathToFileURL(join(folder, file)));
const [{ Agent }, { ask, watched }, { serve }] = await Promise.all(["agents.mjs", "orchestrator.mjs", "server.mjs"].map(load));

const models = mkdtempSync(join(tmpdir(), "avp-example-models-"));
const other = join(models, "other");
const [TEXT, QUESTION, ANSWER] = ["Notes: Rosa lives in Lisbon. Rosa has a parrot.", "Where does Rosa live?", "Answer: Rosa lives in Lisbon."];
const reader = new Agent("reader", process.env.MODEL);
const stranger = new Agent("stranger", other);
let server;
let address;

before(async () => {
  // The same model under another family: nobody may continue from its KV-cache then.
  cpSync(process.env.MODEL, other, { recursive: true });
  const config = join(other, "config.json");
  writeFileSync(config, JSON.stringify({ ...JSON.parse(readFileSync(config, "utf8")), model_type: "llama" }));
  server = serve(reader, new Agent("writer", process.env.MODEL));
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  address = `http://127.0.0.1:${server.address().port}`;
});

after(() => {
  server.close();
  rmSync(models, { recursive: true });
});

test("agents of one model hand over a KV-cache", async () => {
  const heads = [];
  const { mode, rule, answer } = await ask(reader, new Agent("writer", process.env.MODEL), TEXT, QUESTION, (head) => heads.push(head));
  assert.deepEqual([mode, rule, answer], ["latent", "hash_match", ANSWER]);
  assert.equal(heads.length, 1);
  assert.deepEqual([heads[0].metadata.sourceAgentId, heads[0].metadata.payloadType], ["reader", "kv_cache"]);
});

test("agents whose models do not match hand over words", async () => {
  const { mode, rule, answer } = await ask(reader, stranger, TEXT, QUESTION, () => assert.fail("a frame"));
  assert.deepEqual([mode, rule, answer], ["json", "shared_tokenizer", ANSWER]);
});

test("a frame passes in the chunks that it came in, the same memory, whatever their length", async () => {
  const { encode } = await load("node_modules/avp-wasm/dist/inline.js");
  const bytes = Buffer.from(encode({ sessionId: "s" }, new Uint8Array(500)));
  for (const step of [1, 9, 12, 40, 1000]) {
    const chunks = Array.from({ length: Math.ceil(bytes.length / step) }, (_, index) => bytes.subarray(index * step, (index + 1) * step));
    const [passed, heads] = [[], []];
    for await (const chunk of watched((head) => heads.push(head))(chunks)) passed.push(chunk);
    assert.ok(passed.length === chunks.length && passed.every((chunk, index) => chunk === chunks[index]));
    assert.deepEqual(heads.map(({ metadata }) => metadata.sessionId), ["s"]);
  }
});

test("an agent that fails says why", async () => {
  await assert.rejects(ask(reader, new Agent("nobody", join(models, "none")), TEXT, QUESTION), /none/);
  await assert.rejects(ask(reader, new Agent("writer", process.env.MODEL), "word ".repeat(3000), QUESTION), /token/);
});

test("the server answers as the orchestrator does, and passes on what an agent complains of", async () => {
  const response = await fetch(`${address}/ask`, { method: "POST", body: JSON.stringify({ text: TEXT, question: QUESTION }) });
  assert.deepEqual(await response.json(), { mode: "latent", rule: "hash_match", answer: ANSWER });
  const headers = { "content-type": "application/octet-stream" };
  const refused = await fetch(`${address}/writer/generate?prompt=x`, { method: "POST", headers, body: "no frame at all" });
  assert.equal(refused.status, 500);
  assert.match(await refused.text(), /frame/);
  assert.equal((await fetch(`${address}/../server.mjs`)).status, 404);
  assert.equal((await fetch(`${address}/nobody/hello`)).status, 404);
});

test("a path that is no path is refused, and the server goes on", async () => {
  const { port } = server.address();
  const status = await new Promise((answered, failed) => get({ port, path: "//" }, ({ statusCode }) => answered(statusCode)).on("error", failed));
  assert.equal(status, 400);
  assert.equal((await fetch(address)).status, 200);
});

test("in a browser, the page negotiates, looks into the frame and shows the answer", { skip: !process.env.CHROMIUM && "no Chromium" }, async () => {
  const { chromium } = await import("playwright-core");
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
  try {
    const page = await browser.newPage();
    const faults = [];
    page.on("pageerror", (error) => faults.push(error.message));
    await page.goto(address);
    await page.getByLabel("What the second is asked").fill(QUESTION);
    await page.getByRole("button", { name: "Ask" }).click();
    await page.getByText(ANSWER).waitFor();
    assert.match(await page.getByRole("status").textContent(), /^A frame of \d+ bytes is handed over, by hash_match: \d+ tokens, 4 layers\.$/);
    assert.deepEqual(faults, []);
  } finally {
    await browser.close();
  }
});
