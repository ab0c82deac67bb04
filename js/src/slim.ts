// The entry without the module: call `init` or `initSync` first.

import { initialise } from "./seam-wasm.js";

export type ModuleSource = WebAssembly.Module | BufferSource;

/** Initialises the package with the file `avp-wasm/avp.wasm`, as bytes or as a compiled module. */
export function initSync(source: ModuleSource): void {
  initialise(source instanceof WebAssembly.Module ? source : new WebAssembly.Module(source));
}

/** Initialises the package with the URL of that file, a response, its bytes, or the compiled module. */
export async function init(source: string | URL | Response | ModuleSource | Promise<Response>): Promise<void> {
  let given = await source;
  if (typeof given === "string" || given instanceof URL) given = await fetch(given);
  if (typeof Response !== "undefined" && given instanceof Response) {
    if (!given.ok) throw new TypeError(`source: expected the module, got HTTP status ${given.status}`);
    given = await given.arrayBuffer();
  }
  const module = given instanceof WebAssembly.Module ? given : await WebAssembly.compile(given as BufferSource);
  initialise(module);
}

export * from "./index.js";
