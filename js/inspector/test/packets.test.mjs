// The packet editor.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { validatePacket } from "../../../target/npm/avp-wasm/dist/inline.js";
import { accessible, fresh, page } from "./page.mjs";

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
