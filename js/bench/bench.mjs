// The package beside a peer written by hand, in one run: `cargo xtask bench js`. Medians; the best of several rounds
// would hide the garbage that both make.

import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import * as peer from "./peer.mjs";

const folder = resolve(process.argv[2]);
const avp = await import(pathToFileURL(join(folder, "avp-wasm/dist/inline.js")));
const addon = await import(pathToFileURL(join(folder, "avp-node/dist/index.js")));

const SIZES = [["0 B", 0], ["16 KiB", 1 << 14], ["1 MiB", 1 << 20], ["128 MiB", 1 << 27]];
const fields = { sessionId: "s1", sourceAgentId: "a", targetAgentId: "b", modelId: "Qwen/Qwen2.5-0.5B", hiddenDim: 896, numLayers: 24, extra: { num_steps: "8" } };

/** The median time of `act`, in microseconds: rounds of at least a millisecond each, for about a second and a half. */
function time(act) {
  act();
  let [count, took] = [1, 0];
  while (took < 1) {
    const start = performance.now();
    for (let index = 0; index < count; index += 1) act();
    took = performance.now() - start;
    if (took < 1) count *= 2;
  }
  const rounds = [];
  const end = performance.now() + 1500;
  while (performance.now() < end || rounds.length < 5) {
    const start = performance.now();
    for (let index = 0; index < count; index += 1) act();
    rounds.push((performance.now() - start) / count);
  }
  rounds.sort((a, b) => a - b);
  return 1000 * rounds[rounds.length >> 1];
}

const shown = (micros) => (micros < 1000 ? `${micros.toFixed(1)} us` : `${(micros / 1000).toFixed(2)} ms`);
const row = (name, size, ours, native, theirs) =>
  console.log(`| ${name} | ${size} | ${shown(ours)} | ${shown(native)} | ${theirs ? shown(theirs) : ""} | ${theirs ? `${(theirs / ours).toFixed(1)}x` : ""} |`);

console.log("| operation | payload | avp-wasm | avp-node | JavaScript | avp-wasm faster |\n|---|---:|---:|---:|---:|---:|");
for (const [size, length] of SIZES) {
  const payload = new Uint8Array(length);
  for (let at = 0; at < length; at += 1021) payload[at] = at;
  const frame = avp.encode(fields, payload);
  if (peer.unpack(peer.decode(frame)).length !== avp.unpack(avp.decode(frame)).length) throw new Error("they differ");
  row("decode", size, time(() => avp.decode(frame)), time(() => addon.decode(frame)), time(() => peer.decode(frame)));
  row("decode, verify", size, time(() => avp.unpack(avp.decode(frame))), time(() => addon.unpack(addon.decode(frame))), time(() => peer.unpack(peer.decode(frame))));
  row("encode", size, time(() => avp.encode(fields, payload)), time(() => addon.encode(fields, payload)), time(() => peer.encode(fields, payload)));
  const target = new Uint8Array(length + 1024);
  row("encode into kept memory", size, time(() => avp.encodeInto(target, fields, payload)), time(() => addon.encodeInto(target, fields, payload)), time(() => peer.encodeInto(target, fields, payload)));
  row("encode the head, body as it lies", size, time(() => avp.encodeHeader(fields, payload)), time(() => addon.encodeHeader(fields, payload)), time(() => peer.encodeHeader(fields, payload)));
  if (length === 1 << 20) {
    const packed = avp.encode(fields, payload, { compress: true });
    row("decode, unpack, verify", size, time(() => avp.unpack(avp.decode(packed))), time(() => addon.unpack(addon.decode(packed))), time(() => peer.unpack(peer.decode(packed))));
  }
}
const packet = "FETCH|HR|return:HR-Agent|p:1|aacp:1.2|res:emp_salary|period:2024-08";
row("validate a packet", "67 B", time(() => avp.validatePacket(packet)), time(() => addon.validatePacket(packet)));
