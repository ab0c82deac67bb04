// Benchmarks the packages against a hand-written JavaScript peer and the Python packages: `cargo xtask bench js`. It reports medians,
// because the best of several rounds would hide garbage collection.

import { execFileSync } from "node:child_process";
import { join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
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

/** Times of the Python packages in seconds, measured by the scripts in `bench/`. */
function python(variable, script, args) {
  const { [variable]: interpreter } = process.env;
  if (!interpreter) throw new Error(`${variable} is not set; run this as \`cargo xtask bench js\``);
  const path = fileURLToPath(new URL(`../../bench/${script}`, import.meta.url));
  return JSON.parse(execFileSync(interpreter, [path, ...args], { encoding: "utf8" }));
}

const shown = (micros) => (micros < 1000 ? `${micros.toFixed(1)} us` : `${(micros / 1000).toFixed(2)} ms`);
const cells = (ours, theirs) => (theirs ? [shown(theirs), `${(theirs / ours).toFixed(1)}x`] : ["", ""]);

/** Times one call of both packages and, if available, of the JavaScript peer; `seconds` is the time of the Python peer. */
function row(name, size, call, { script, seconds } = {}) {
  const [ours, native] = [time(() => call(avp)), time(() => call(addon))];
  const line = [name, size, shown(ours), shown(native), ...cells(ours, script && time(() => script(peer))), ...cells(ours, seconds && 1e6 * seconds)];
  console.log(`| ${line.join(" | ")} |`);
}

/** The time of a copy alone, a lower bound for encoders that copy. */
function floor(name, size, act) {
  console.log(`| ${name} | ${size} |  |  | ${shown(time(act))} |  |  |  |`);
}

const packet = "FETCH|HR|return:HR-Agent|p:1|aacp:1.2|res:emp_salary|period:2024-08";
const frames = python("AVP_PEER_0_6_2_PYTHON", "peer.py", SIZES.map(([, length]) => String(length)));
const packets = python("AACP_PEER_1_4_0_PYTHON", "peer_aacp.py", [packet]);

console.log(`| work | payload | avp-wasm | avp-node | JavaScript | avp-wasm faster | Python | avp-wasm faster |
|---|---:|---:|---:|---:|---:|---:|---:|`);
for (const [size, length] of SIZES) {
  const payload = new Uint8Array(length);
  for (let at = 0; at < length; at += 1021) payload[at] = at;
  const frame = avp.encode(fields, payload);
  const target = new Uint8Array(length + 1024);
  if (peer.unpack(peer.decode(frame)).length !== avp.unpack(avp.decode(frame)).length) throw new Error("they differ");
  const compared = (call, seconds) => [call, { script: call, seconds }];
  const { encode, decode } = frames.seconds[length];
  row("decode", size, ...compared((api) => api.decode(frame)));
  row("decode, verify", size, ...compared((api) => api.unpack(api.decode(frame)), decode));
  row("encode", size, ...compared((api) => api.encode(fields, payload), encode));
  row("encode into a kept buffer", size, ...compared((api) => api.encodeInto(target, fields, payload), encode));
  if (length === 1 << 27) {
    floor("copy alone, into new memory", size, () => new Uint8Array(target.length).set(payload));
    floor("copy alone, into a kept buffer", size, () => target.set(payload));
  }
  row("encode, body borrowed", size, ...compared((api) => api.encodeHeader(fields, payload), encode));
  if (length === 1 << 20) {
    const packed = avp.encode(fields, payload, { compress: true });
    row("decode, unpack, verify", size, ...compared((api) => api.unpack(api.decode(packed))));
  }
}
row("validate a packet", `${packet.length} B`, (api) => api.validatePacket(packet), { seconds: packets.seconds });
console.log(`\nPython: avp ${frames.version}, aacp ${packets.version}; Node ${process.versions.node}`);
