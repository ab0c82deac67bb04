// What web pages can do to a running `avp serve`, tried with a real browser: `node web-pages.mjs AVP CHROMIUM MODEL_DIR`.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const [avp, executablePath, model] = process.argv.slice(2);
const CONTEXTS = "/avp/v2/contexts/";
/** A frame of dialect 0.3 without metadata, whose body is "x". */
const FRAME = [0x41, 0x56, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x78];

const pages = createServer((_, response) => response.setHeader("content-type", "text/html").end("<!doctype html><title>page</title>"));
await new Promise((done) => pages.listen(0, "127.0.0.1", done));
const pagePort = pages.address().port;
const friend = `http://friend.example:${pagePort}`;

const server = spawn(avp, ["serve", "--listen", "127.0.0.1:0", "--no-token", "--model", model, "--allowed-origin", friend], { stdio: ["ignore", "pipe", "inherit"] });
// Every name of a page leads to this machine, as a name that was rebound does.
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--host-resolver-rules=MAP *.example 127.0.0.1"] });
try {
  const [line] = await new Promise((done) => createInterface(server.stdout).once("line", (line) => done([line])));
  const url = line.replace("listening on ", "");
  const { port } = new URL(url);

  const store = async () => {
    const sent = await fetch(`${url}/avp/v2/transmit`, { method: "POST", headers: { "content-type": "application/avp+binary" }, body: new Uint8Array(FRAME) });
    assert.equal(sent.status, 200);
    return (await sent.json()).context_id;
  };
  const isStored = async (id) => (await fetch(`${url}${CONTEXTS}${id}`)).status === 200;
  const metric = async (name) => {
    const text = await (await fetch(`${url}/metrics`)).text();
    return Number(text.split("\n").find((line) => line.startsWith(`${name} `))?.split(" ")[1] ?? 0);
  };
  const stored = () => metric("avp_stored_bytes");
  /** Requests that were not refused, but for those of this script: contexts, metrics, health. */
  const done = async () => {
    const text = await (await fetch(`${url}/metrics`)).text();
    const lines = text.split("\n").filter((line) => /^avp_requests_total\{endpoint="(handshake|transmit|text|other)",status="[25]/.test(line));
    return lines.map((line) => Number(line.split(" ").at(-1))).reduce((sum, count) => sum + count, 0);
  };
  const id = await store();
  const before = await stored();
  const doneBefore = await done();
  assert.equal(doneBefore, 1);

  /** Everything that a page can send, and what it reads of the answer: a status, or "error". */
  const attempts = (page, base) =>
    page.evaluate(
      async ({ base, id, frame, contexts }) => {
        const body = new Uint8Array(frame);
        const types = ["text/plain", "application/x-www-form-urlencoded", "application/json", "application/avp+binary"];
        const paths = ["/avp/v2/transmit", "/avp/v2/handshake", "/avp/v2/text", "/v1/chat/completions"];
        const requests = [["GET", contexts + id], ["HEAD", contexts + id], ["DELETE", contexts + id], ["GET", "/metrics"]];
        const all = requests.map(([method, path]) => [path, { method }]);
        for (const path of paths) {
          for (const type of types) all.push([path, { method: "POST", headers: { "content-type": type }, body: path.endsWith("transmit") ? body : "{}" }]);
          // A blob has no type of its own.
          all.push([path, { method: "POST", body: new Blob([body]) }]);
        }
        const read = [];
        for (const [path, init] of all) {
          for (const mode of ["cors", "no-cors"]) {
            try {
              const response = await fetch(base + path, { ...init, mode, cache: "no-store" });
              read.push(response.type === "opaque" ? "opaque" : response.status);
            } catch {
              read.push("error");
            }
          }
        }
        const form = document.createElement("form");
        Object.assign(form, { method: "post", action: `${base}/v1/chat/completions`, enctype: "text/plain", target: "into" });
        const frameOfPage = document.createElement("iframe");
        frameOfPage.name = "into";
        document.body.append(frameOfPage, form);
        const loaded = new Promise((done) => frameOfPage.addEventListener("load", done, { once: true }));
        form.submit();
        await loaded;
        return read;
      },
      { base, id, frame: FRAME, contexts: CONTEXTS },
    );

  const page = await browser.newPage();
  for (const origin of [`http://evil.example:${pagePort}`, `http://localhost:${pagePort}`, `http://127.0.0.1:${pagePort}`]) {
    await page.goto(origin);
    const read = await attempts(page, url);
    assert.ok(read.every((seen) => seen === "error" || seen === "opaque"), `${origin} read ${read}`);
    assert.equal(await isStored(id), true, `${origin} removed a context`);
    assert.equal(await stored(), before, `${origin} stored a frame`);
    assert.equal(await done(), doneBefore, `${origin} made the server work`);
  }

  // The page's own name now leads to the server, so that nothing it sends is from another origin.
  const rebound = `http://rebound.example:${port}`;
  assert.equal((await page.goto(`${rebound}/health`)).status(), 421);
  const read = await attempts(page, rebound);
  assert.ok(read.every((seen) => seen === 421 || seen === "error" || seen === "opaque"), `a rebound page read ${read}`);
  assert.equal(await isStored(id), true);
  assert.equal(await stored(), before);
  assert.equal(await done(), doneBefore);

  await page.goto(friend);
  const friendly = await page.evaluate(
    async ({ url, frame, contexts }) => {
      const headers = { "content-type": "application/avp+binary", "idempotency-key": "k", authorization: "Bearer unused" };
      const sent = await fetch(`${url}/avp/v2/transmit`, { method: "POST", headers, body: new Uint8Array(frame) });
      const { context_id: id } = await sent.json();
      const got = await fetch(url + contexts + id, { headers: { range: "bytes=0-3" } });
      const bytes = [...new Uint8Array(await got.arrayBuffer())];
      const removed = await fetch(url + contexts + id, { method: "DELETE" });
      const gone = await fetch(url + contexts + id);
      return { etag: got.headers.get("etag"), part: got.headers.get("content-range"), bytes, statuses: [sent, got, removed, gone].map(({ status }) => status) };
    },
    { url, frame: FRAME, contexts: CONTEXTS },
  );
  assert.deepEqual(friendly.statuses, [200, 206, 200, 404]);
  assert.deepEqual(friendly.bytes, FRAME.slice(0, 4));
  assert.match(friendly.etag, /^"/);
  assert.equal(friendly.part, `bytes 0-3/${FRAME.length}`);
} finally {
  await browser.close();
  server.kill();
  pages.close();
}
