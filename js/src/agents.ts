// Agreement between agents: identities, handshake, JSON messages, sessions.

import type * as api from "../api.js";
import * as check from "./check.js";
import * as core from "./core.js";
import { Fields, Operation } from "./core.js";
import { JsonError } from "./errors.js";
import { MODES, named, u32 } from "./frames.js";

const HOUR = 3_600_000;

export function identityFromConfig(config: string): api.ModelIdentity {
  return core.ask(Operation.Identity, check.text(config, "config"));
}

export function modelHash(config: string): string {
  return core.ask(Operation.ModelHash, check.text(config, "config"));
}

export function tokenizerHash(vocabulary: string): string {
  return core.ask(Operation.TokenizerHash, check.text(vocabulary, "vocabulary"));
}

export function dialectOf(version: string): api.Dialect | null {
  return core.ask(Operation.Dialect, check.text(version, "version"));
}

export function resolve(
  local: Partial<api.ModelIdentity>,
  remote: Partial<api.ModelIdentity>,
  evidence?: api.Evidence,
): api.Resolution {
  const known = check.object(evidence, "evidence");
  const shared = check.optional(known["sharedTokens"], "evidence.sharedTokens", check.whole);
  const fields = new Fields();
  writeIdentity(fields, local, "local");
  writeIdentity(fields, remote, "remote");
  fields.flag(check.optional(known["hasStoredMap"], "evidence.hasStoredMap", check.flag) ?? false);
  fields.option(shared, (tokens) => fields.number(tokens));
  return core.ask(Operation.Resolve, fields.bytes());
}

function writeIdentity(fields: Fields, value: unknown, name: string): void {
  const identity = check.object(value ?? null, name);
  const text = (key: string) => fields.text(check.optional(identity[key], `${name}.${key}`, check.text) ?? "");
  const count = (key: string) => fields.number(check.optional(identity[key], `${name}.${key}`, u32) ?? 0);
  ["modelFamily", "modelId", "modelHash"].forEach(text);
  ["hiddenDim", "numLayers", "numKvHeads", "headDim"].forEach(count);
  text("tokenizerHash");
}

export function parseHello(text: string): api.Hello {
  const hello = core.ask(Operation.ParseHello, check.text(text, "text"));
  return { ...hello, capabilities: plain(hello.capabilities, "capabilities") };
}

export function formatHello(hello: Parameters<typeof api.formatHello>[0]): string {
  const given = check.object(hello ?? null, "hello");
  const fields = new Fields().text(optionalText(given, "hello", "agentId"));
  fields.option(check.optional(given["avpVersion"], "hello.avpVersion", check.text), (version) => fields.text(version));
  fields.option(given["identity"] ?? null, (identity) => writeIdentity(fields, identity, "hello.identity"));
  fields.text(written(given["capabilities"], "hello.capabilities"));
  return core.ask(Operation.WriteHello, fields.bytes());
}

export function parseJsonMessage(text: string): api.JsonMessage {
  const message = core.ask(Operation.ParseMessage, check.text(text, "text"));
  return { ...message, extra: plain(message.extra, "extra") };
}

export function formatJsonMessage(message: Partial<api.JsonMessage>): string {
  const given = check.object(message ?? null, "message");
  const fields = new Fields();
  fields.option(check.optional(given["avpVersion"], "message.avpVersion", check.text), (version) => fields.text(version));
  for (const key of ["sessionId", "sourceAgentId", "targetAgentId", "content"]) {
    fields.text(optionalText(given, "message", key));
  }
  fields.text(written(given["extra"], "message.extra"));
  return core.ask(Operation.WriteMessage, fields.bytes());
}

export function parseFallbackRequest(text: string): api.FallbackRequest {
  return core.ask(Operation.ParseFallback, check.text(text, "text"));
}

export function formatFallbackRequest(request: Partial<api.FallbackRequest>): string {
  const given = check.object(request ?? null, "request");
  const score = check.optional(given["perplexityScore"], "request.perplexityScore", check.number) ?? 0;
  const fields = new Fields().text(optionalText(given, "request", "sessionId"));
  fields.text(optionalText(given, "request", "reason")).number(score);
  return core.ask(Operation.WriteFallback, fields.bytes());
}

function optionalText(object: Record<string, unknown>, name: string, key: string): string {
  return check.optional(object[key], `${name}.${key}`, check.text) ?? "";
}

/** Python's JSON has `NaN` and `Infinity`; JavaScript's has not. */
function plain(json: string, field: string): { [key: string]: api.JsonValue } {
  try {
    return JSON.parse(json);
  } catch {
    throw new JsonError(`${field} should be an object of finite numbers`, "bad_field", 0);
  }
}

function written(value: unknown, name: string): string {
  const object = check.object(value ?? undefined, name);
  try {
    return JSON.stringify(object);
  } catch (error) {
    throw new TypeError(`${name} should be an object of JSON values`, { cause: error });
  }
}

export class SessionManager {
  readonly #sessions = new Map<string, api.Session>();
  readonly #ttl: number;
  readonly #now: () => number;

  constructor(options?: api.SessionManagerOptions) {
    const chosen = check.object(options, "options");
    this.#ttl = check.optional(chosen["ttl"], "options.ttl", check.number) ?? HOUR;
    const now = chosen["now"] ?? (() => performance.now());
    if (typeof now !== "function") throw new TypeError("options.now should be a function");
    this.#now = now as () => number;
  }

  create(init: api.SessionInit): api.Session {
    const given = check.object(init ?? null, "init");
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    const session: api.Session = {
      id: Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(""),
      agents: check.list(given["agents"], "init.agents", check.text),
      mode: named(given["mode"], "init.mode", MODES) ?? "latent",
      avpMapId: optionalText(given, "init", "avpMapId"),
      created: this.#now(),
      ttl: check.optional(given["ttl"], "init.ttl", check.number) ?? this.#ttl,
    };
    this.#sessions.set(session.id, session);
    return copy(session);
  }

  get(id: string): api.Session | null {
    const session = this.#sessions.get(check.text(id, "id"));
    if (!session) return null;
    if (!this.#isActive(session)) {
      this.#sessions.delete(id);
      return null;
    }
    return copy(session);
  }

  find(agent: string): api.Session[] {
    check.text(agent, "agent");
    return this.#active()
      .filter((session) => session.agents.includes(agent))
      .map(copy);
  }

  invalidate(id: string): boolean {
    return this.#sessions.delete(check.text(id, "id"));
  }

  cleanupExpired(): number {
    const before = this.#sessions.size;
    for (const session of [...this.#sessions.values()]) {
      if (!this.#isActive(session)) this.#sessions.delete(session.id);
    }
    return before - this.#sessions.size;
  }

  get activeCount(): number {
    return this.#active().length;
  }

  #active(): api.Session[] {
    return [...this.#sessions.values()].filter((session) => this.#isActive(session));
  }

  #isActive(session: api.Session): boolean {
    return this.#now() <= session.created + session.ttl;
  }
}

function copy(session: api.Session): api.Session {
  return { ...session, agents: [...session.agents] };
}
