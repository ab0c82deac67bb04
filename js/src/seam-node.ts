// The seam to the addon, which works on payloads where they lie.

import type * as api from "../api.js";
import { joined } from "./core.js";
import { headOf } from "./metadata.js";
import { type Answer, addon, value } from "./native.js";
import type * as wasm from "./seam-wasm.js";

/** The functions of the addon, which has those of the module under the same names. */
export type Rust = wasm.Rust;

/** Calls into Rust. Every function of the addon returns its value or the error. */
export function call<T>(act: (rust: Rust) => T): T {
  return value(act(addon as unknown as Rust) as Answer<T>) as T;
}

/** An object of Rust. The garbage collector frees it. */
export function kept<T>(make: (rust: Rust) => T): wasm.Kept<T> {
  return { object: call(make) };
}

/** The addon copies nothing. */
export function copied(bytes: Uint8Array): Uint8Array {
  return bytes;
}

export function decodeHead(bytes: Uint8Array, frameLength?: number): api.FrameHead {
  return value(addon.decodeHead(headOf, bytes, frameLength));
}

/** The head, or how many bytes of the frame are needed first. */
export function peekHead(bytes: Uint8Array, frameLimit: number): api.FrameHead | number {
  return value(addon.peekHead(headOf, bytes, frameLimit));
}

/** The CRC-32 of bytes after others. */
export function crc32(bytes: Uint8Array, previous: number): number {
  return addon.crc32(bytes, previous);
}

export function unpack(body: Uint8Array, limit: number, offset: number): Uint8Array {
  return value(addon.unpack(body, limit, offset));
}

export function pack(parts: readonly Uint8Array[], _length: number): Uint8Array {
  return value(addon.pack(parts.length === 1 ? parts[0]! : joined(parts)));
}

const self = { call, copied, crc32, decodeHead, kept, pack, peekHead, unpack };
self satisfies Omit<typeof wasm, "initialise">;
