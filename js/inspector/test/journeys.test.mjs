// Ways through the page, as people take them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { drop, fresh, page, painted, sample } from "./page.mjs";

/** Presses Tab until what has the focus matches. */
async function tabTo(selector) {
  for (let step = 0; step < 60; step++) {
    await page.keyboard.press("Tab");
    if (await page.evaluate((selector) => document.activeElement.matches(selector), selector)) return;
  }
  assert.fail(`no Tab leads to ${selector}`);
}
const focused = (read) => page.evaluate(`(${read})(document.activeElement)`);

test("by keyboard alone, a frame is opened, a value read, and the picture changed", async () => {
  await tabTo("[data-sample=kv-cache]");
  await page.keyboard.press("Enter");
  await painted();
  await tabTo("[data-field='3']");
  assert.equal(await page.locator(".byte.lit").count(), 4);
  await tabTo("input[name=tensor]");
  await page.keyboard.press("ArrowDown");
  await page.waitForSelector("[aria-label*='Norms of values']");
  await tabTo("canvas");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowDown");
  assert.match(await page.locator("#heat-value").textContent(), /^Layer 0, head 1, token 1: \d/);
});

test("by keyboard alone, a packet is written and mended", async () => {
  await tabTo("nav [href='#packet']");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#packet");
  await tabTo("#packet");
  await page.keyboard.press("Control+A");
  await page.keyboard.type("FETHC|HR|return:A|aacp:1.2");
  await page.waitForSelector(".findings button");
  await tabTo(".findings button");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector("#verdict").textContent === "Valid");
  assert.equal(await focused((one) => one.value), "FETCH|HR|return:A|aacp:1.2", "one can go on typing");
});

test("by keyboard alone, two frames are compared", async () => {
  await tabTo("nav [href='#compare']");
  await page.keyboard.press("Enter");
  await page.waitForSelector(".compare");
  for (const frame of ["kv-cache", "kv-cache-b"]) {
    await tabTo(".compare button");
    await page.keyboard.press("Enter");
    await page.waitForSelector(`text=sample ${frame}`);
  }
  await page.waitForSelector("table");
  await tabTo(".scroll");
});

const address = () => page.evaluate(() => location.hash);
const packetFile = (text) => drop(Buffer.from(text).toString("hex"), "packet.txt");

test("what is dropped has an address of its own, from which every link leads on and the way back leads back", async () => {
  await page.click("nav >> text=Compare");
  await drop("41560100000000000000" + "0000", "empty.avp");
  await page.waitForSelector(".frame");
  assert.equal(await address(), "#frame");
  await page.click("nav >> text=Compare");
  await page.waitForSelector(".compare");
  await packetFile("FETCH|HR|return:A|aacp:1.2");
  await page.waitForSelector("#packet");
  assert.equal(await address(), "#packet=FETCH%7CHR%7Creturn%3AA%7Caacp%3A1.2");
  await page.goBack();
  await page.waitForSelector(".compare");
  await page.goBack();
  await page.waitForSelector(".frame >> text=empty.avp");
});

test("a packet that was written, and a frame that was opened, are there again after another view", async () => {
  await sample("hybrid");
  await page.click("nav >> text=Packet");
  await page.fill("#packet", "FETCH|HR|return:Mine|aacp:1.2");
  await page.click("nav >> text=Packet");
  assert.equal(await page.inputValue("#packet"), "FETCH|HR|return:Mine|aacp:1.2");
  await page.click("nav >> text=Frame");
  await page.waitForSelector(".frame >> text=sample hybrid");
  await page.click("nav >> text=Packet");
  assert.equal(await page.inputValue("#packet"), "FETCH|HR|return:Mine|aacp:1.2");
  assert.equal(await address(), "#packet=FETCH%7CHR%7Creturn%3AMine%7Caacp%3A1.2");
});

test("a tap shows a value, as pointing does", async () => {
  await fresh({ viewport: { width: 360, height: 800 }, hasTouch: true, isMobile: true });
  await sample("kv-cache");
  await painted();
  await page.locator(".map canvas").tap({ position: { x: 1, y: 1 } });
  assert.match(await page.locator("#heat-value").textContent(), /^Layer 0, head 0, token 0: \d/);
});
