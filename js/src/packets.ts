// AACP: packets, workflows and rules.

import type * as api from "../api.js";
import * as check from "./check.js";
import * as core from "./core.js";

export function parsePacket(text: string): api.Packet {
  const packet = check.text(text, "text");
  return core.ask((rust) => rust.parsePacket(packet));
}

export function validatePacket(text: string, options?: api.ValidateOptions): api.Validation {
  const packet = check.text(text, "text");
  const chosen = options === undefined ? undefined : core.json(options, "options");
  const findings = core.call((rust) => rust.validatePacket(packet, chosen));
  return findings ? JSON.parse(findings) : { valid: true, findings: [], peer: null };
}

export function explainPacket(text: string): api.Explanation {
  const packet = check.text(text, "text");
  return core.ask((rust) => rust.explainPacket(packet));
}

export function buildPacket(init: api.PacketInit): string {
  const { priority, fields, ...given } = check.object(init ?? null, "init");
  const values = Object.entries(check.object(fields ?? undefined, "init.fields"));
  const written = core.json(
    {
      ...given,
      priority: check.optional(priority, "init.priority", word),
      fields: values.map(([key, value]) => [key, words(value, `init.fields.${key}`)]),
    },
    "init",
  );
  return core.ask((rust) => rust.buildPacket(written));
}

export function standardVocabulary(): ReturnType<typeof api.standardVocabulary> {
  return core.ask((rust) => rust.standardVocabulary());
}

export function describeInstruction(english: string): ReturnType<typeof api.describeInstruction> {
  const text = check.text(english, "english");
  return core.ask((rust) => rust.describeInstruction(text));
}

function word(value: unknown, name: string): string {
  return typeof value === "number" ? String(check.number(value, name)) : check.text(value, name);
}

function words(value: unknown, name: string): string {
  return Array.isArray(value) ? check.list(value, name, word).join(",") : word(value, name);
}

export class Workflows {
  readonly #kept;

  constructor(table?: string) {
    const text = check.optional(table, "table", check.text) ?? undefined;
    this.#kept = core.kept((rust) => rust.loadWorkflows(text));
  }

  list(): api.WorkflowInfo[] {
    return core.ask(() => this.#kept.object.list());
  }

  encode(
    workflow: string,
    call: string,
    args: Readonly<Record<string, api.WorkflowArgument>>,
    options?: { version?: string; vocabulary?: api.Vocabulary },
  ): string[] {
    const names = [check.text(workflow, "workflow"), check.text(call, "call")] as const;
    const pairs = Object.entries(check.object(args ?? null, "args"));
    const given = core.stringify(Object.fromEntries(pairs.map(([name, value]) => [name, argument(value, `args.${name}`)])));
    const chosen = core.json(options, "options");
    return core.ask(() => this.#kept.object.encode(...names, given, chosen));
  }
}

function argument(value: unknown, name: string): unknown {
  if (value === undefined || value === null) return null;
  if (Array.isArray(value)) return check.list(value, name, argument);
  if (typeof value === "number") return check.number(value, name);
  return typeof value === "boolean" ? value : check.text(value, name);
}

export class Rules {
  readonly #kept;
  readonly count: number;
  readonly refused: readonly { index: number; code: string }[];

  constructor(rules: string) {
    const text = check.text(rules, "rules");
    this.#kept = core.kept((rust) => rust.loadRules(text));
    const { count, refused } = core.ask(() => this.#kept.object.summary());
    this.count = count;
    this.refused = refused;
  }

  find(
    query: string,
    options?: { domain?: string | null; task?: string | null; limit?: number },
  ): { rule: api.PacketRule; score: number }[] {
    const [text, chosen] = [check.text(query, "query"), core.json(options, "options")];
    return core.ask(() => this.#kept.object.find(text, chosen));
  }

  encode(
    instruction: api.Instruction,
    options?: { version?: string; leastCoverage?: number },
  ): { packet: string; rule: string; coverage: number } {
    const [given, chosen] = [core.json(instruction ?? null, "instruction"), core.json(options, "options")];
    return core.ask(() => this.#kept.object.encode(given, chosen));
  }
}
