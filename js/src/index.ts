// The whole API. That it is what `api.ts` declares is checked when this is compiled.

import type * as api from "../api.js";
import * as implementation from "./public.js";

// Every name that is declared, with its type; one that is missing or differs does not compile.
implementation satisfies Omit<typeof api, never>;

export * from "./public.js";
