// Contexts: what a model knows, held by the addon.

import { createRequire } from "node:module";
import { readdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import type * as api from "../runtime.js";
import type { KvShape, ModelIdentity } from "../api.js";
import * as check from "./check.js";
import { type External, addon, value } from "./native.js";
import { json, options } from "./options.js";

const DIALECTS = ["0.2", "0.3"] as const;
const FRAME = {
  sessionId: check.text,
  sourceAgentId: check.text,
  targetAgentId: check.text,
  modelHash: check.text,
  dialect: (value: unknown, name: string) => check.oneOf(value, name, DIALECTS),
  alignment: check.whole,
  compress: check.flag,
  checksum: check.flag,
  fingerprint: check.flag,
  tokenIds: check.flag,
};
const READ = { library: check.text, verify: check.flag, scan: check.flag, limit: check.whole };

interface Info {
  seqLen: number;
  numSteps: number;
  identity: ModelIdentity;
  shape: KvShape;
  tokens: (number | null)[] | null;
}

/** Lets no one else make a context: there is nothing to make one of. */
const key = Symbol("context");

export class Context {
  readonly #held: External<"context">;
  #info: Info | undefined;

  constructor(from: typeof key, held: External<"context">) {
    if (from !== key) throw new TypeError("a Context comes from think, Context.fromFrame or Context.load");
    this.#held = held;
  }

  /** What the addon holds. */
  static heldBy(context: unknown, name: string): External<"context"> {
    if (typeof context === "object" && context !== null && #held in context) return context.#held;
    throw new TypeError(`${name} should be a Context`);
  }

  static async fromFrame(bytes: Uint8Array, options_?: api.FromFrameOptions): Promise<Context> {
    const given = check.bytes(bytes, "bytes");
    const { transfer, ...chosen } = options(options_, "options", { ...READ, transfer: check.flag });
    const request = withLibrary(chosen);
    // Nobody else can write to a copy, nor to memory that has been handed over.
    const own = transfer ? handedOver(given) : given.slice();
    return new Context(key, value(await addon.contextFromFrame(own, request)));
  }

  static async load(path: string, options_?: api.ContextReadOptions): Promise<Context> {
    const request = withLibrary(options(options_, "options", READ));
    return new Context(key, value(await addon.contextLoad(resolve(check.text(path, "path")), request)));
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

  async toFrame(options_?: api.ContextFrameOptions): Promise<Uint8Array> {
    return value(await addon.contextToFrame(this.#held, json(options(options_, "options", FRAME), "options")));
  }

  async save(path: string, options_?: api.ContextFrameOptions): Promise<void> {
    const request = json(options(options_, "options", FRAME), "options");
    value(await addon.contextSave(this.#held, resolve(check.text(path, "path")), request));
  }
}

/** A context of what the addon gave. */
export function contextOf(held: External<"context">): Context {
  return new Context(key, held);
}

/** Memory that is somebody else's (the addon's, that of Node's pool of small buffers) cannot be handed over, and is copied. */
function handedOver(bytes: Uint8Array): Uint8Array {
  const { byteOffset, byteLength } = bytes;
  try {
    const buffer = structuredClone(bytes.buffer, { transfer: [bytes.buffer as ArrayBuffer] });
    return new Uint8Array(buffer, byteOffset, byteLength);
  } catch {
    return bytes.slice();
  }
}

/** Options as the addon reads them, with the places where an installed `onnxruntime-node` has the library. */
export function withLibrary(chosen: Record<string, unknown>): string {
  return json({ ...chosen, packaged: packaged() }, "options");
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
