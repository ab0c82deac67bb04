// The seam of the package that is built; `build-node.mjs` puts `seam-node.ts` in this file's place.

export * from "./seam-wasm.js";
