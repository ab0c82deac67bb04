// The seam to the addon: requests in, answers out, payloads where they lie. `bindings-node/src/requests.rs` is the other side.

import { type Operation, joined } from "./core.js";
import { value } from "./native.js";
import { addon } from "./native.js";
import type * as wasm from "./seam-wasm.js";

/** Asks for something and gives the answer's value. */
export function ask(operation: Operation, bytes: Uint8Array, number: number): any {
  return JSON.parse(value(addon.ask(operation, bytes, number)));
}

/** Asks for something that is bytes. */
export function askBytes(operation: Operation, bytes: Uint8Array): Uint8Array {
  return value(addon.askBytes(operation, bytes));
}

/** Takes the usual answer: making memory takes longer than to fill it. A longer one is asked for twice. */
const usual = new Uint8Array(4096);
const usualView = new DataView(usual.buffer);

/** Asks for something that is numbers; they are there until the next question. */
export function askNumbers(operation: Operation, bytes: Uint8Array, number: number): DataView {
  const length = value(addon.askNumbers(operation, bytes, number, usual));
  if (length <= usual.length) return usualView;
  const numbers = new Uint8Array(length);
  value(addon.askNumbers(operation, bytes, number, numbers));
  return new DataView(numbers.buffer);
}

/** Which state answers from now: what was kept in an earlier one is gone. */
export function generation(): number {
  return addon.generation();
}

/** The CRC-32 of bytes after others. */
export function crc32(bytes: Uint8Array, previous: number): number {
  return addon.crc32(bytes, previous);
}

export function unpack(packed: Uint8Array, limit: number, offset: number): Uint8Array {
  return value(addon.unpack(packed, limit, offset));
}

export function pack(parts: readonly Uint8Array[], _length: number): Uint8Array {
  return value(addon.pack(parts.length === 1 ? parts[0]! : joined(parts)));
}

const self = { ask, askBytes, askNumbers, generation, crc32, unpack, pack };
self satisfies Omit<typeof wasm, "initialise">;
