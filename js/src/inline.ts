// The entry for hosts that can compile WebAssembly. It contains the module and needs no initialisation.

import base64 from "avp.wasm";
import { initialise } from "./seam-wasm.js";

initialise(new WebAssembly.Module(Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))));

export * from "./index.js";
