// Agreement between agents: identities, handshake, JSON messages, sessions.

import type * as api from "../api.js";
import * as check from "./check.js";
import * as core from "./core.js";

const HOUR = 3_600_000;
const MODES = ["latent", "hybrid", "json"] as const;

export function identityFromConfig(config: string): api.ModelIdentity {
  const text = check.text(config, "config");
  return core.ask((rust) => rust.identityFromConfig(text));
}

export function modelHash(config: string): string {
  const text = check.text(config, "config");
  return core.ask((rust) => rust.modelHash(text));
}

export function tokenizerHash(vocabulary: string): string {
  const text = check.text(vocabulary, "vocabulary");
  return core.ask((rust) => rust.tokenizerHash(text));
}

export function dialectOf(version: string): api.Dialect | null {
  const text = check.text(version, "version");
  return core.ask((rust) => rust.dialectOf(text));
}

export function resolve(
  local: Partial<api.ModelIdentity>,
  remote: Partial<api.ModelIdentity>,
  evidence?: api.Evidence,
): api.Resolution {
  const identities = [core.json(local ?? null, "local"), core.json(remote ?? null, "remote")] as const;
  const known = core.json(evidence, "evidence");
  return core.ask((rust) => rust.resolve(...identities, known));
}

export function parseHello(text: string): api.Hello {
  const hello = check.text(text, "text");
  return core.ask((rust) => rust.parseHello(hello));
}

export function formatHello(hello: Parameters<typeof api.formatHello>[0]): string {
  const { capabilities, ...given } = check.object(hello ?? null, "hello");
  const [fields, values] = [core.json(given, "hello"), written(capabilities, "hello.capabilities")];
  return core.ask((rust) => rust.formatHello(fields, values));
}

export function parseJsonMessage(text: string): api.JsonMessage {
  const message = check.text(text, "text");
  return core.ask((rust) => rust.parseJsonMessage(message));
}

export function formatJsonMessage(message: Partial<api.JsonMessage>): string {
  const { extra, ...given } = check.object(message ?? null, "message");
  const [fields, values] = [core.json(given, "message"), written(extra, "message.extra")];
  return core.ask((rust) => rust.formatJsonMessage(fields, values));
}

export function parseFallbackRequest(text: string): api.FallbackRequest {
  const given = check.text(text, "text");
  const request = core.ask((rust) => rust.parseFallbackRequest(given));
  return { ...request, perplexityScore: Number(request.perplexityScore) };
}

export function formatFallbackRequest(request: Partial<api.FallbackRequest>): string {
  const given = check.object(request ?? null, "request");
  const session = check.optional(given["sessionId"], "request.sessionId", check.text) ?? "";
  const reason = check.optional(given["reason"], "request.reason", check.text) ?? "";
  const score = check.optional(given["perplexityScore"], "request.perplexityScore", check.number) ?? 0;
  return core.call((rust) => rust.formatFallbackRequest(session, reason, score));
}

/** An object of JSON values as `JSON.stringify` writes it. */
function written(value: unknown, name: string): string {
  const object = check.object(value ?? undefined, name);
  try {
    return JSON.stringify(object);
  } catch (error) {
    throw new TypeError(`${name}: expected an object of JSON values`, { cause: error });
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
    if (typeof now !== "function") throw new TypeError("options.now: expected a function");
    this.#now = now as () => number;
  }

  create(init: api.SessionInit): api.Session {
    const given = check.object(init ?? null, "init");
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    const session: api.Session = {
      id: Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(""),
      agents: check.list(given["agents"], "init.agents", check.text),
      mode: check.optional(given["mode"], "init.mode", (mode, name) => check.oneOf(mode, name, MODES)) ?? "latent",
      avpMapId: check.optional(given["avpMapId"], "init.avpMapId", check.text) ?? "",
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
