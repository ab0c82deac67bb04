// The entry for every host that may compile WebAssembly: the module is part of the file, and ready when it is imported.

import base64 from "avp.wasm";
import { initialise } from "./seam-wasm.js";

initialise(new WebAssembly.Module(Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))));

export * from "./index.js";
