// The entry for workerd, which takes compiled modules only from imports.

// @ts-expect-error A WebAssembly module, which the host compiles.
import compiled from "./avp.wasm";
import { initialise } from "./seam-wasm.js";

initialise(compiled as WebAssembly.Module);

export * from "./index.js";
