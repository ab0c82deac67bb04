// The seam of `avp-wasm`; `build-node.mjs` replaces this file with `seam-node.ts`.

export * from "./seam-wasm.js";
