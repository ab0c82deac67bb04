// The addon: loading and declarations.

import { createRequire } from "node:module";
import type * as api from "../api.js";
import { type Fault, errorOf } from "./errors.js";
import type { headOf } from "./metadata.js";

/** An opaque object of the addon. */
export interface External<Name extends string> {
  readonly external: Name;
}

/** A value or an error. A value is never an object with a `kind`. */
export type Answer<T> = T | Fault;

export interface Thinking {
  context: External<"context">;
  lastHiddenState: Float32Array;
  about: string;
}

export interface Event {
  piece?: string;
  generation?: string;
  failure?: Fault;
}

/** The functions of `bindings-node/src` that `avp-wasm` lacks or has in another form. */
export interface Addon {
  decodeHead(build: typeof headOf, bytes: Uint8Array, frameLength?: number): Answer<api.FrameHead>;
  peekHead(build: typeof headOf, bytes: Uint8Array, frameLimit: number): Answer<api.FrameHead | number>;
  crc32(bytes: Uint8Array, previous: number): number;
  unpack(body: Uint8Array, limit: number, offset: number): Answer<Uint8Array>;
  pack(payload: Uint8Array): Answer<Uint8Array>;
  newStop(): External<"stop">;
  stop(stop: External<"stop">): void;
  modelLoad(folder: string, options: string, library: string): Promise<Answer<External<"model">>>;
  modelInfo(model: External<"model">): Answer<string>;
  modelAccepts(model: External<"model">, context: External<"context">): Answer<string>;
  modelThink(
    model: External<"model">,
    prompt: string,
    options: string,
    context: External<"context"> | null,
    stop: External<"stop">,
  ): Promise<Answer<Thinking>>;
  modelGenerate(
    model: External<"model">,
    prompt: string,
    options: string,
    context: External<"context"> | null,
    stop: External<"stop">,
    listener: (event: Event) => void,
  ): void;
  contextInfo(context: External<"context">): Answer<string>;
  contextToFrame(context: External<"context">, options: string): Promise<Answer<Uint8Array>>;
  contextFromFrame(bytes: Uint8Array, options: string, library: string): Promise<Answer<External<"context">>>;
  contextSave(context: External<"context">, path: string, options: string): Promise<Answer<null>>;
  contextLoad(path: string, options: string, library: string): Promise<Answer<External<"context">>>;
}

/** The value of an answer. Throws if it is an error. */
export function value<T>(answer: Answer<T>): T {
  if (typeof answer === "object" && answer !== null && "kind" in answer) throw errorOf(answer);
  return answer;
}

/** The platform in npm's names of `os`, `cpu` and `libc`. */
function platform(): string {
  const { platform, arch } = process;
  if (platform === "win32") return `${platform}-${arch}-msvc`;
  if (platform !== "linux") return `${platform}-${arch}`;
  return `${platform}-${arch}-${isMusl() ? "musl" : "gnu"}`;
}

function isMusl(): boolean {
  const report = process.report as NodeJS.ProcessReport & { excludeNetwork?: boolean };
  // Otherwise the report resolves the address of every socket, which can take seconds.
  const before = report.excludeNetwork;
  report.excludeNetwork = true;
  const { header } = report.getReport() as unknown as { header: { glibcVersionRuntime?: string } };
  report.excludeNetwork = before ?? false;
  return !header.glibcVersionRuntime;
}

/** Loads a file beside this one, which a local build makes, or the package of this platform. */
function load(): Addon {
  const require = createRequire(__filename);
  const name = platform();
  const places = [`./avp-node.${name}.node`, `avp-node-${name}`];
  const reasons: string[] = [];
  for (const place of places) {
    try {
      return require(place);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      const isMissing = code === "MODULE_NOT_FOUND" && message.includes(place);
      reasons.push(`${place} (${isMissing ? "not found" : message.split("\n")[0]})`);
    }
  }
  const fix = "reinstall avp-node on this platform without --omit=optional, or use avp-wasm, which runs everywhere";
  throw new Error(`avp-node has no addon for ${process.platform} ${process.arch}: looked for ${reasons.join(", ")}; ${fix}`);
}

export const addon = load();
