// AACP: packets, workflows and rules.

import type * as api from "../api.js";
import * as check from "./check.js";
import * as core from "./core.js";
import { Fields, Kept, Operation } from "./core.js";
import { named } from "./frames.js";

export function parsePacket(text: string): api.Packet {
  return core.ask(Operation.ParsePacket, check.text(text, "text"));
}

export function validatePacket(text: string, options?: api.ValidateOptions): api.Validation {
  const chosen = check.object(options, "options");
  const fields = new Fields().text(check.text(text, "text"));
  fields.flag(named(chosen["profile"], "options.profile", ["lenient", "strict"]) === "strict");
  writeVersion(fields, chosen);
  fields.option(check.optional(chosen["peer"], "options.peer", check.text), (peer) => fields.text(peer));
  const maxFields = check.optional(chosen["maxFields"], "options.maxFields", check.whole);
  fields.option(maxFields, (most) => fields.number(most));
  writeVocabulary(fields, chosen["vocabulary"], "options.vocabulary");
  return core.ask(Operation.ValidatePacket, fields.bytes());
}

export function explainPacket(text: string): api.Explanation {
  return core.ask(Operation.ExplainPacket, check.text(text, "text"));
}

export function buildPacket(init: api.PacketInit): string {
  const given = check.object(init ?? null, "init");
  const fields = new Fields();
  for (const key of ["task", "domain", "returnAgent"]) fields.text(check.text(given[key], `init.${key}`));
  fields.option(check.optional(given["priority"], "init.priority", written), (priority) => fields.text(priority));
  writeVersion(fields, given, "init");
  const values = Object.entries(check.object(given["fields"] ?? undefined, "init.fields"));
  fields.pairs(values.map(([key, value]) => [key, fieldText(value, `init.fields.${key}`)] as const));
  writeVocabulary(fields, given["vocabulary"], "init.vocabulary");
  return core.ask(Operation.BuildPacket, fields.bytes());
}

export function standardVocabulary(): ReturnType<typeof api.standardVocabulary> {
  return core.ask(Operation.Vocabulary, "");
}

export function describeInstruction(english: string): ReturnType<typeof api.describeInstruction> {
  return core.ask(Operation.Instruction, check.text(english, "english"));
}

function written(value: unknown, name: string): string {
  return typeof value === "number" ? String(check.number(value, name)) : check.text(value, name);
}

function fieldText(value: unknown, name: string): string {
  return Array.isArray(value) ? check.list(value, name, written).join(",") : written(value, name);
}

function writeVersion(fields: Fields, options: Record<string, unknown>, name = "options"): void {
  fields.option(check.optional(options["version"], `${name}.version`, check.text), (version) => fields.text(version));
}

function writeVocabulary(fields: Fields, value: unknown, name: string): void {
  const vocabulary = check.object(value ?? undefined, name);
  for (const key of ["tasks", "domains", "fields"]) {
    fields.texts(check.list(vocabulary[key] ?? [], `${name}.${key}`, check.text));
  }
}

export class Workflows {
  readonly #kept: Kept;

  constructor(table?: string) {
    const text = check.optional(table, "table", check.text);
    const make = () => (text === null ? 0 : core.ask(Operation.AddTable, text));
    this.#kept = new Kept(make);
    // The published table is everybody's, and a mistake in another should show at once.
    if (text !== null) this.#kept.number;
    if (text !== null) this.#kept.ownedBy(this);
  }

  list(): api.WorkflowInfo[] {
    return core.ask(Operation.Workflows, "", this.#kept.number);
  }

  encode(
    workflow: string,
    call: string,
    args: Readonly<Record<string, api.WorkflowArgument>>,
    options?: { version?: string; vocabulary?: api.Vocabulary },
  ): string[] {
    const chosen = check.object(options, "options");
    const fields = new Fields().number(this.#kept.number);
    fields.text(check.text(workflow, "workflow")).text(check.text(call, "call"));
    const pairs = Object.entries(check.object(args ?? null, "args"));
    fields.pairs(pairs.map(([name, value]) => [name, JSON.stringify(argument(value, `args.${name}`))] as const));
    writeVersion(fields, chosen);
    writeVocabulary(fields, chosen["vocabulary"], "options.vocabulary");
    return core.ask(Operation.Call, fields.bytes());
  }
}

function argument(value: unknown, name: string): unknown {
  if (value === undefined || value === null) return null;
  if (Array.isArray(value)) return check.list(value, name, argument);
  if (typeof value === "number") return check.number(value, name);
  return typeof value === "boolean" ? value : check.text(value, name);
}

export class Rules {
  readonly #kept: Kept;
  readonly count: number;
  readonly refused: readonly { index: number; code: string }[];

  constructor(rules: string) {
    const text = check.text(rules, "rules");
    const loaded = core.ask(Operation.AddRules, text);
    this.count = loaded.count;
    this.refused = loaded.refused;
    let first: number | null = loaded.number;
    const make = () => {
      const number = first ?? core.ask(Operation.AddRules, text).number;
      first = null;
      return number;
    };
    this.#kept = new Kept(make);
    this.#kept.number;
    this.#kept.ownedBy(this);
  }

  find(
    query: string,
    options?: { domain?: string | null; task?: string | null; limit?: number },
  ): { rule: api.PacketRule; score: number }[] {
    const chosen = check.object(options, "options");
    const fields = new Fields().number(this.#kept.number).text(check.text(query, "query"));
    for (const key of ["domain", "task"]) {
      fields.option(check.optional(chosen[key], `options.${key}`, check.text), (value) => fields.text(value));
    }
    fields.number(check.optional(chosen["limit"], "options.limit", check.whole) ?? 1);
    return core.ask(Operation.FindRules, fields.bytes());
  }

  encode(
    instruction: api.Instruction,
    options?: { version?: string; leastCoverage?: number },
  ): { packet: string; rule: string; coverage: number } {
    const given = check.object(instruction ?? null, "instruction");
    const chosen = check.object(options, "options");
    const fields = new Fields().number(this.#kept.number);
    for (const key of ["english", "domain", "returnAgent"]) fields.text(check.text(given[key], `instruction.${key}`));
    const priority = check.optional(given["priority"], "instruction.priority", (value, name) => check.whole(value, name, 3));
    fields.option(priority, (value) => fields.number(value));
    const least = check.optional(chosen["leastCoverage"], "options.leastCoverage", check.number);
    fields.option(least, (value) => fields.number(value));
    writeVersion(fields, chosen);
    return core.ask(Operation.EncodeByRule, fields.bytes());
  }
}
