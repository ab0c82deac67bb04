// Contexts: KV-caches, held by the addon.

import { createRequire } from "node:module";
import { readdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import type * as api from "../runtime.js";
import type { KvShape, ModelIdentity } from "../api.js";
import * as check from "./check.js";
import * as core from "./core.js";
import { type External, addon, value } from "./native.js";

interface Info {
  seqLen: number;
  numSteps: number;
  identity: ModelIdentity;
  shape: KvShape;
  tokens: (number | null)[] | null;
}

/** Makes the constructor private. */
const key = Symbol("context");

export class Context {
  readonly #held: External<"context">;
  #info: Info | undefined;

  constructor(from: typeof key, held: External<"context">) {
    if (from !== key) throw new TypeError("a Context comes from think, Context.fromFrame or Context.load");
    this.#held = held;
  }

  /** The addon's object. */
  static heldBy(context: unknown, name: string): External<"context"> {
    if (typeof context === "object" && context !== null && #held in context) return context.#held;
    throw new TypeError(`${name}: expected a Context`);
  }

  static async fromFrame(bytes: Uint8Array, options?: api.FromFrameOptions): Promise<Context> {
    const given = check.bytes(bytes, "bytes");
    const { transfer, library, ...chosen } = check.object(options, "options");
    const request = core.json(chosen, "options");
    // The addon reads the bytes on another thread, so nothing may write to them.
    const own = check.optional(transfer, "options.transfer", check.flag) ? transferred(given) : given.slice();
    return new Context(key, value(await addon.contextFromFrame(own, request, libraryOptions(library))));
  }

  static async load(path: string, options?: api.ContextReadOptions): Promise<Context> {
    const { library, ...chosen } = check.object(options, "options");
    const request = core.json(chosen, "options");
    return new Context(key, value(await addon.contextLoad(resolve(check.text(path, "path")), request, libraryOptions(library))));
  }

  get #about(): Info {
    return (this.#info ??= JSON.parse(value(addon.contextInfo(this.#held))) as Info);
  }
  get seqLen(): number {
    return this.#about.seqLen;
  }
  get numSteps(): number {
    return this.#about.numSteps;
  }
  get identity(): ModelIdentity {
    return { ...this.#about.identity };
  }
  get shape(): KvShape {
    return { ...this.#about.shape };
  }
  get tokens(): (number | null)[] | null {
    return this.#about.tokens && [...this.#about.tokens];
  }

  async toFrame(options?: api.ContextFrameOptions): Promise<Uint8Array> {
    return value(await addon.contextToFrame(this.#held, core.json(options, "options")));
  }

  async save(path: string, options?: api.ContextFrameOptions): Promise<void> {
    const request = core.json(options, "options");
    value(await addon.contextSave(this.#held, resolve(check.text(path, "path")), request));
  }
}

/** Wraps an object of the addon. */
export function contextOf(held: External<"context">): Context {
  return new Context(key, held);
}

/** Transfers the buffer. Memory of the addon or of Node's pool of small buffers cannot be detached, and is copied. */
function transferred(bytes: Uint8Array): Uint8Array {
  const { byteOffset, byteLength } = bytes;
  try {
    const buffer = structuredClone(bytes.buffer, { transfer: [bytes.buffer as ArrayBuffer] });
    return new Uint8Array(buffer, byteOffset, byteLength);
  } catch {
    return bytes.slice();
  }
}

/** The options of the ONNX Runtime library as JSON, with the library files of an installed `onnxruntime-node`. */
export function libraryOptions(library: unknown): string {
  return core.json({ library, packaged: packaged() }, "options");
}

/** `bin/napi-v6/linux/x64/libonnxruntime.so.1` and its like, in the program's packages or in ours. */
function packaged(): string[] {
  for (const from of [join(process.cwd(), "package.json"), __filename]) {
    try {
      const bin = join(dirname(createRequire(from).resolve("onnxruntime-node/package.json")), "bin");
      const folders = readdirSync(bin).map((version) => join(bin, version, process.platform, process.arch));
      return folders.flatMap(librariesIn);
    } catch {
      // Not installed there.
    }
  }
  return [];
}

function librariesIn(folder: string): string[] {
  const isLibrary = (name: string) => /^(libonnxruntime\.(so|.*dylib)|onnxruntime\.dll$)/.test(name);
  return readdirSync(folder).filter(isLibrary).map((name) => join(folder, name));
}
