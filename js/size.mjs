// Compares the module's size after `gzip -9` with the committed size and with the limit:
// `node size.mjs MODULE.wasm [--write]`.

import { readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const LIMIT = 200_000;

const [module, option] = process.argv.slice(2);
const snapshot = new URL("size.json", import.meta.url);
const bytes = gzipSync(readFileSync(module), { level: 9 }).length;
if (bytes > LIMIT) {
  console.error(`avp.wasm after gzip -9: ${bytes} bytes exceed the limit of ${LIMIT}`);
  process.exit(1);
}
if (option === "--write") {
  writeFileSync(snapshot, `${JSON.stringify({ "avp.wasm after gzip -9": bytes })}\n`);
} else {
  const committed = JSON.parse(readFileSync(snapshot, "utf8"))["avp.wasm after gzip -9"];
  const growth = (100 * (bytes - committed)) / committed;
  console.log(`avp.wasm after gzip -9: ${bytes} bytes, ${growth.toFixed(1)} % more than the ${committed} committed`);
  if (growth > 3) {
    console.error("It grew by more than 3 %. If the growth is justified: node js/size.mjs MODULE.wasm --write");
    process.exit(1);
  }
}
