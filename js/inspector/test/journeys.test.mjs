// Ways through the page, as people take them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { drop, fresh, page, painted, sample } from "./page.mjs";

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
