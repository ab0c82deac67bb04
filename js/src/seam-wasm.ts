// The seam to the WebAssembly module: one instance, requests in, answers out. `bindings-wasm/src/abi.rs` is the other side.

import { joined, type Operation } from "./core.js";
import { AvpError, errorOf } from "./errors.js";

interface Exports {
  memory: WebAssembly.Memory;
  reserve(length: number): number;
  call(operation: number, number: number): number;
  answer(): number;
  answer_len(): number;
  window(): number;
  window_len(): number;
  crc32(crc: number, length: number): number;
  crc32_pass(crc: number): void;
  unpack(limit: number, offset: number): number;
  pack(length: number): void;
}

let module: WebAssembly.Module | undefined;
let instance: Exports | undefined;
let instances = 0;
/** The memory as bytes; made anew when it has grown, which detaches the old buffer. */
let memory = new Uint8Array(0);

/** What the module pulls from and pushes to while it packs or unpacks. */
let source: (target: Uint8Array) => number = () => 0;
let sink: (bytes: Uint8Array) => void = () => {};

const fromUtf8 = new TextDecoder();

/** Makes the module ready. Doing it again changes nothing. */
export function initialise(compiled: WebAssembly.Module): void {
  module ??= compiled;
}

function core(): Exports {
  if (instance) return instance;
  if (!module) {
    throw new AvpError("call init() or initSync() before anything else", "not_initialised", null);
  }
  const imports = {
    pull: (to: number, length: number) => source(view().subarray(to >>> 0, (to >>> 0) + length)),
    push: (from: number, length: number) => sink(view().subarray(from >>> 0, (from >>> 0) + length)),
  };
  instance = new WebAssembly.Instance(module, { host: imports }).exports as unknown as Exports;
  instances += 1;
  return instance;
}

/** Which instance answers from now: what was kept in an earlier one is gone. */
export function generation(): number {
  core();
  return instances;
}

function view(): Uint8Array {
  if (memory.buffer !== instance!.memory.buffer) memory = new Uint8Array(instance!.memory.buffer);
  return memory;
}

/** Runs `act` on the module. Should the module fail, which is a defect, the next call gets a new instance. */
function guarded<T>(act: (core: Exports) => T): T {
  try {
    return act(core());
  } catch (error) {
    if (!(error instanceof WebAssembly.RuntimeError)) throw error;
    instance = undefined;
    const failure = new AvpError("the WebAssembly module failed, and was started anew", "internal", null);
    throw Object.assign(failure, { cause: error });
  }
}

function answer(core: Exports): Uint8Array {
  const start = core.answer() >>> 0;
  return view().subarray(start, start + core.answer_len());
}

function request(core: Exports, operation: Operation, bytes: Uint8Array, number: number): Uint8Array {
  const start = core.reserve(bytes.length) >>> 0;
  if (start === 0) throw new AvpError(`no memory for ${bytes.length} bytes`, "out_of_memory", null);
  view().set(bytes, start);
  const failed = core.call(operation, number);
  if (failed) throw errorOf(JSON.parse(fromUtf8.decode(answer(core))));
  return answer(core);
}

/** Asks for something and gives the answer's value. */
export function ask(operation: Operation, bytes: Uint8Array, number: number): any {
  return guarded((core) => JSON.parse(fromUtf8.decode(request(core, operation, bytes, number))));
}

/** Asks for something that is bytes, and gives a copy of them. */
export function askBytes(operation: Operation, bytes: Uint8Array): Uint8Array {
  return guarded((core) => request(core, operation, bytes, 0).slice());
}

/** Takes the usual answer: making memory takes longer than to fill it. */
const usual = new Uint8Array(512);
const usualView = new DataView(usual.buffer);

/** Asks for something that is numbers; they are there until the next question. */
export function askNumbers(operation: Operation, bytes: Uint8Array, number: number): DataView {
  return guarded((core) => {
    const answer = request(core, operation, bytes, number);
    if (answer.length > usual.length) return new DataView(answer.slice().buffer);
    usual.set(answer);
    return usualView;
  });
}

/** The CRC-32 of bytes after others, through a fixed window. */
export function crc32(bytes: Uint8Array, previous: number): number {
  return guarded((core) => {
    const [start, length] = [core.window() >>> 0, core.window_len()];
    let crc = previous;
    for (let at = 0; at < bytes.length; at += length) {
      const piece = bytes.subarray(at, at + length);
      view().set(piece, start);
      if (bytes.length - at >= 2 * length) core.crc32_pass(crc);
      else crc = core.crc32(crc, piece.length) >>> 0;
    }
    return crc;
  });
}

/** Runs a module's function that takes its input and gives its output in pieces. */
function streamed(input: readonly Uint8Array[], act: (core: Exports) => void): Uint8Array {
  const pieces: Uint8Array[] = [];
  let [part, at] = [0, 0];
  source = (target) => {
    let filled = 0;
    while (filled < target.length && part < input.length) {
      const piece = input[part]!.subarray(at, at + target.length - filled);
      target.set(piece, filled);
      filled += piece.length;
      at += piece.length;
      if (at === input[part]!.length) [part, at] = [part + 1, 0];
    }
    return filled;
  };
  sink = (bytes) => void pieces.push(bytes.slice());
  try {
    guarded(act);
  } finally {
    source = () => 0;
    sink = () => {};
  }
  return joined(pieces);
}

export function unpack(packed: Uint8Array, limit: number, offset: number): Uint8Array {
  return streamed([packed], (core) => {
    if (core.unpack(limit, offset)) throw errorOf(JSON.parse(fromUtf8.decode(answer(core))));
  });
}

export function pack(parts: readonly Uint8Array[], length: number): Uint8Array {
  return streamed(parts, (core) => core.pack(length));
}
