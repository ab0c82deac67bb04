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

/** Writes a packet as typing does, with any character, and waits for what is said of it. */
const write = (text) =>
  page.evaluate((text) => {
    document.querySelector("#packet").value = text;
    document.querySelector("#packet").dispatchEvent(new Event("input"));
    return new Promise((done) => new MutationObserver((_, observer) => (observer.disconnect(), done())).observe(document.querySelector(".marks"), { childList: true }));
  }, text);

for (const [action, packet, fixes] of [
  ["replace", "FETHC|HR|return:A|aacp:1.2", ["FETCH|HR|return:A|aacp:1.2"]],
  ["append", "FETCH|HR|p:2", ["FETCH|HR|p:2|return:", "FETCH|HR|p:2|aacp:"]],
  ["remove", "FETCH|HR|return:A||return:B|aacp:1.2||p:2|", [
    "FETCH|HR|return:A|return:B|aacp:1.2||p:2|", "FETCH|HR|return:A||aacp:1.2||p:2|", "FETCH|HR|return:A||return:B|aacp:1.2|p:2|", "FETCH|HR|return:A||return:B|aacp:1.2||p:2",
  ]],
  ["encode", "FETCH|HR|return:A|tone:50%\u0085\u0007|aacp:1.2", ["FETCH|HR|return:A|tone:50%25%C2%85%07|aacp:1.2|enc:pct"]],
  ["encode, where some is encoded already", "FETCH|HR|return:A|tone:50%25\u0007|aacp:1.2|enc:pct", ["FETCH|HR|return:A|tone:50%25%07|aacp:1.2|enc:pct"]],
]) {
  test(`a fix is applied where it belongs: ${action}`, async () => {
    await page.click("nav >> text=Packet");
    for (const [index, mended] of fixes.entries()) {
      await write(packet);
      await page.locator(".findings button").nth(index).click();
      assert.equal(await page.inputValue("#packet"), mended);
      assert.ok(await page.locator("#packet").evaluate((input) => input === document.activeElement), "one can go on typing");
    }
  });
}

test("what is missing is marked where it would stand", async () => {
  await page.click("nav >> text=Packet");
  await write("FETCH|HR||p:2");
  const marks = await page.locator(".marks").evaluate(({ childNodes }) => [...childNodes].map((node) => [node.className ?? "", node.textContent]));
  assert.deepEqual(marks, [["", "FETCH|HR|"], ["warning missing", ""], ["", "|p:2"], ["error missing", ""], ["", ""]]);
  const lines = await page.locator("mark.missing").evaluateAll((all) => all.map((mark) => getComputedStyle(mark, "::before").textDecorationStyle));
  assert.deepEqual(lines, ["wavy", "wavy"]);
});

test("every first fix that is offered for a packet of the vectors mends its finding", async () => {
  const { packets } = JSON.parse(readFileSync(new URL("../../../test-vectors/aacp/inputs.json", import.meta.url), "utf8"));
  const strict = (line) => validatePacket(line, { profile: "strict" }).findings;
  const lines = packets.filter((one) => !/[\n\r]/.test(one) && strict(one).some(({ fix }) => fix));
  await page.click("nav >> text=Packet");
  await page.check("text=Strict");
  const mended = await page.evaluate(async (lines) => {
    const [input, verdict] = ["#packet", "#verdict"].map((name) => document.querySelector(name));
    const mended = [];
    for (const line of lines) {
      input.value = line;
      verdict.textContent = "";
      input.dispatchEvent(new Event("input"));
      while (verdict.textContent === "") await new Promise((next) => setTimeout(next, 1));
      document.querySelector(".findings button").click();
      mended.push(input.value);
    }
    return mended;
  }, lines);
  const count = (packet, code) => strict(packet).filter((one) => one.code === code).length;
  for (const [index, line] of lines.entries()) {
    const { code } = strict(line).find(({ fix }) => fix);
    assert.ok(count(mended[index], code) < count(line, code), `${line}, then ${mended[index]}: ${code}`);
  }
  assert.ok(lines.length > 100);
});

test("half a character in a packet harms neither the page nor its address", async () => {
  await page.click("nav >> text=Packet");
  await page.evaluate(() => {
    const input = document.querySelector("#packet");
    input.value = "FETCH|HR|return:A\ud83d|aacp:1.2";
    for (const type of ["input", "change"]) input.dispatchEvent(new Event(type));
  });
  assert.match(await page.evaluate(() => location.hash), /return%3AA%EF%BF%BD%7C/);
});
