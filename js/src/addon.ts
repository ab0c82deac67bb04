// The entry of `avp-node`: the API over the addon, and the runtime. Compiling it checks both against `api.ts` and `runtime.ts`.

import type * as api from "../api.js";
import type * as runtime from "../runtime.js";
import { Context } from "./contexts.js";
import { RuntimeError } from "./errors.js";
import { Model } from "./models.js";
import * as shared from "./public.js";

shared satisfies Omit<typeof api, never>;

/** A declared class without its constructor, which is private there. */
type Static<Class extends { prototype: unknown }> = { [Key in Exclude<keyof Class, "prototype">]: unknown };
Model satisfies Static<typeof runtime.Model>;
Context satisfies Static<typeof runtime.Context>;
RuntimeError satisfies typeof runtime.RuntimeError;
/** Compiles if the public members are those declared. */
type Members<Of> = { [Key in keyof Of]: Of[Key] };
export type Checked = [
  Context extends Members<runtime.Context> ? true : never,
  Omit<Model, "accepts" | "think" | "generate"> extends Omit<Members<runtime.Model>, "accepts" | "think" | "generate"> ? true : never,
];
null as unknown as Checked satisfies [true, true];

export * from "./public.js";
export { Context, Model, RuntimeError };
