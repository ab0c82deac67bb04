// The addon: found, and described.

import { createRequire } from "node:module";
import { type Fault, errorOf } from "./errors.js";

/** What the addon holds and JavaScript cannot look into. */
export interface External<Name extends string> {
  readonly external: Name;
}

/** Every answer is a value or a failure. A value is never an object with a `kind`. */
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

/** `bindings-node/src` has the functions; all that looks like JSON there is JSON. */
export interface Addon {
  ask(operation: number, request: Uint8Array, number: number): Answer<string>;
  askBytes(operation: number, request: Uint8Array): Answer<Uint8Array>;
  askNumbers(operation: number, request: Uint8Array, number: number, answer: Uint8Array): Answer<number>;
  generation(): number;
  crc32(bytes: Uint8Array, previous: number): number;
  unpack(body: Uint8Array, limit: number, offset: number): Answer<Uint8Array>;
  pack(payload: Uint8Array): Answer<Uint8Array>;
  newStop(): External<"stop">;
  stop(stop: External<"stop">): void;
  modelLoad(folder: string, options: string): Promise<Answer<External<"model">>>;
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
  contextFromFrame(bytes: Uint8Array, options: string): Promise<Answer<External<"context">>>;
  contextSave(context: External<"context">, path: string, options: string): Promise<Answer<null>>;
  contextLoad(path: string, options: string): Promise<Answer<External<"context">>>;
}

/** The value of an answer. Throws where it is a failure. */
export function value<T>(answer: Answer<T>): T {
  if (typeof answer === "object" && answer !== null && "kind" in answer) throw errorOf(answer);
  return answer;
}

/** Platforms that there is a package for, as npm's `os`, `cpu` and `libc` name them. */
function platform(): string {
  const { platform, arch } = process;
  if (platform === "win32") return `${platform}-${arch}-msvc`;
  if (platform !== "linux") return `${platform}-${arch}`;
  return `${platform}-${arch}-${isMusl() ? "musl" : "gnu"}`;
}

function isMusl(): boolean {
  const report = process.report as NodeJS.ProcessReport & { excludeNetwork?: boolean };
  // Else the report looks up a name for every socket, which can take seconds.
  const before = report.excludeNetwork;
  report.excludeNetwork = true;
  const { header } = report.getReport() as unknown as { header: { glibcVersionRuntime?: string } };
  report.excludeNetwork = before ?? false;
  return !header.glibcVersionRuntime;
}

/** The file beside this one first, as one has it who builds it, then the package of this platform. */
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
      reasons.push(`${place} (${isMissing ? "not there" : message.split("\n")[0]})`);
    }
  }
  const mend = "install avp-node again without --omit=optional and on this platform, or use avp-wasm, which runs everywhere";
  throw new Error(`avp-node has no addon for ${process.platform} ${process.arch}: looked for ${reasons.join(", ")}; ${mend}`);
}

export const addon = load();
