// The whole API. Compiling it checks the API against `api.ts`.

import type * as api from "../api.js";
import * as implementation from "./public.js";

// Fails to compile if a declared name is missing or has another type.
implementation satisfies Omit<typeof api, never>;

export * from "./public.js";
