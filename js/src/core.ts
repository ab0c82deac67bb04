// Calls into Rust, which take and return text, bytes and JSON. The build chooses the seam: `seam-wasm.ts` or `seam-node.ts`.

import * as check from "./check.js";
import { type Rust, call } from "./seam.js";

export { call, copied, crc32, decodeHead, kept, pack, peekHead, unpack } from "./seam.js";

/** Calls a function that returns JSON, and gives its value. */
export function ask(act: (rust: Rust) => string): any {
  return JSON.parse(call(act));
}

/** An object of options as JSON; Rust checks the fields. `null` is the same as an absent field. */
export function json(value: unknown, name: string): string {
  const given: Record<string, unknown> = {};
  for (const [key, field] of Object.entries(check.object(value, name))) {
    if (field === undefined || field === null) continue;
    checkJson(field, `${name}.${key}`);
    given[key] = field;
  }
  return stringify(given);
}

/** `JSON.stringify` would drop these values, or write others in their place. */
function checkJson(value: unknown, name: string, depth = 0): void {
  if (typeof value === "number") check.number(value, name);
  else if (typeof value === "object" && value !== null) {
    if (depth > MAX_DEPTH) throw new TypeError(`${name}: nested more than ${MAX_DEPTH} levels deep`);
    for (const [key, item] of Object.entries(value)) {
      checkJson(item, Array.isArray(value) ? `${name}[${key}]` : `${name}.${key}`, depth + 1);
    }
  } else if (typeof value === "bigint" || typeof value === "function" || typeof value === "symbol") {
    throw new TypeError(`${name}: expected a JSON value, got a ${typeof value}`);
  }
}

const MAX_DEPTH = 100;

/** JSON in which half a surrogate pair, which UTF-8 lacks, is U+FFFD, as in `TextEncoder`. */
export function stringify(value: unknown): string {
  const json = JSON.stringify(value);
  if (!json.includes("\\ud")) return json;
  return json.replace(/\\\\|\\ud[0-9a-f]{3}/g, (found) => (found === "\\\\" ? found : "\ufffd"));
}

export function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(lengthOf(parts));
  write(parts, whole);
  return whole;
}

/** Writes parts one after another into memory that has room for them. */
export function write(parts: readonly Uint8Array[], target: Uint8Array): void {
  let at = 0;
  for (const part of parts) {
    target.set(part, at);
    at += part.length;
  }
}

export function lengthOf(parts: readonly Uint8Array[]): number {
  return parts.reduce((length, part) => length + part.length, 0);
}
