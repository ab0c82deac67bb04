// The seam to the WebAssembly module: one instance of it, made at the first call.

import type * as api from "../api.js";
import { joined } from "./core.js";
import { AvpError, errorOf } from "./errors.js";
import * as rust from "./generated/avp.js";

/** The functions that Rust exports, declared by wasm-bindgen. */
export type Rust = typeof rust;

let module: WebAssembly.Module | undefined;
let isReady = false;
/** Instances so far. Objects of Rust belong to the instance that made them. */
let instances = 0;

/** Makes the module available. Doing it again changes nothing. */
export function initialise(compiled: WebAssembly.Module): void {
  module ??= compiled;
}

/** Calls into Rust. Errors of Rust are strings; after any other error the next call gets a new instance. */
export function call<T>(act: (rust: Rust) => T): T {
  if (!isReady) start();
  try {
    return act(rust);
  } catch (error) {
    if (typeof error === "string") throw errorOf(JSON.parse(error));
    // The error passed through functions of Rust without running their destructors, so the instance cannot be used again.
    isReady = false;
    if (!(error instanceof WebAssembly.RuntimeError)) throw error;
    const failure = new AvpError("the WebAssembly module failed, possibly for lack of memory, and will be restarted", "internal");
    throw Object.assign(failure, { cause: error });
  }
}

function start(): void {
  if (!module) throw new AvpError("call init() or initSync() before anything else", "not_initialised");
  if (instances === 0) rust.initSync({ module });
  else rust.__wbg_reset_state();
  instances += 1;
  isReady = true;
}

/** An object of Rust, made anew when the instance has been replaced. The garbage collector frees it. */
export interface Kept<T> {
  readonly object: T;
}

export function kept<T>(make: (rust: Rust) => T): Kept<T> {
  let [object, instance] = [call(make), instances];
  return {
    get object() {
      if (instance !== instances) [object, instance] = [call(make), instances];
      return object;
    },
  };
}

/** More bytes than Rust can allocate. */
const TOO_LARGE = 2 ** 31;

/** Bytes that are copied to the module's memory as a whole. */
export function copied(bytes: Uint8Array): Uint8Array {
  if (bytes.length < TOO_LARGE) return bytes;
  throw new AvpError(`the WebAssembly module has no memory for ${bytes.length} bytes`, "out_of_memory");
}

export function decodeHead(bytes: Uint8Array, frameLength?: number): api.FrameHead {
  return call((rust) => rust.decodeHead(bytes, frameLength));
}

/** The head, or how many bytes of the frame are needed first. */
export function peekHead(bytes: Uint8Array, frameLimit: number): api.FrameHead | number {
  return call((rust) => rust.peekHead(bytes, frameLimit));
}

/** Bytes that Rust counts with 32 bits. */
const PIECE = 2 ** 30;

function pieces(bytes: Uint8Array): Uint8Array[] {
  const found: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += PIECE) found.push(bytes.subarray(at, at + PIECE));
  return found;
}

/** The CRC-32 of bytes after others. */
export function crc32(bytes: Uint8Array, previous: number): number {
  return call((rust) => pieces(bytes).reduce((crc, piece) => rust.crc32(piece, crc), previous));
}

export function unpack(body: Uint8Array, limit: number, offset: number): Uint8Array {
  return joined(call((rust) => rust.unpack(pieces(body), limit, offset)));
}

export function pack(parts: readonly Uint8Array[], length: number): Uint8Array {
  return joined(call((rust) => rust.pack(parts.flatMap(pieces), length)));
}
