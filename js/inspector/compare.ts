// Two frames compared: whether their models can exchange state, and how much their caches differ.

import type { Rule } from "avp-wasm";
import { card, facts, h, number, short } from "./dom.js";
import { troubleView } from "./frame-view.js";
import { ask, type Compared, type Comparison, type Opened } from "./protocol.js";
import { questions } from "./question.js";

const RULES: Record<Rule, string> = {
  hash_match: "Both models have the same hash: they are the same.",
  structural_match: "Same family and same shape.",
  shared_tokenizer: "Both tokenizers have the same hash, so token ids mean the same.",
  avp_map_file: "A projection map between the two is stored.",
  vocab_overlap: "The vocabularies share enough tokens.",
  json_fallback: "No rule for latent state applies, so the agents talk in JSON.",
};

/** The last two frames, kept when the view changes. */
const chosen: ({ name: string; opened: Opened } | null)[] = [null, null];

/** `left` is aborted when the view is removed. */
export function compareView(left: AbortSignal): HTMLElement {
  const result = h("div", { "aria-live": "polite" });
  const question = questions(result, left);
  const hellos = [0, 1].map(() => h("textarea", { rows: 3, spellcheck: "false", placeholder: "{ … }" }));
  const run = async () => {
    const [a, b] = chosen;
    if (!a || !b) return result.replaceChildren(h("p", { class: "note" }, "Choose two frames."));
    const frames = [a, b].map(({ opened: { head, payload, kv } }) => ({ head, payload, kv })) as [Compared, Compared];
    const what = { frames, hellos: hellos.map(({ value }) => value) as [string, string] };
    const answer = await question("Comparing", "compare", what);
    if (answer) result.replaceChildren(...("code" in answer ? [troubleView(answer)] : shown(answer)));
  };
  const side = (index: number) => {
    const state = h("div", { class: "chosen" });
    const reading = questions(state, left);
    const show = () => {
      const { name, opened } = chosen[index] ?? { name: "No frame yet", opened: null };
      state.replaceChildren(h("p", {}, name), ...(opened?.trouble ? [troubleView(opened.trouble)] : []));
    };
    const choose = async (name: string, blob: Blob) => {
      const opened = await reading(`Reading ${name}`, "open", { blob });
      if (!opened) return;
      const broken = "code" in opened;
      // Stopping the read of another frame keeps the previous one.
      if (broken && opened.code === "cancelled") return show();
      chosen[index] = broken ? null : { name, opened };
      show();
      if (broken) state.append(troubleView(opened));
      await run();
    };
    const picker = h("input", { type: "file", onchange: () => picker.files?.[0] && choose(picker.files[0].name, picker.files[0]) });
    const sample = index === 0 ? "kv-cache" : "kv-cache-b";
    const element = card(index === 0 ? "First frame" : "Second frame", state,
      h("label", { class: "pick" }, "Open a file", picker),
      h("button", { type: "button", onclick: async () => choose(`sample ${sample}`, (await ask("sample", { name: sample })).blob) }, "Use a sample"),
      h("label", { class: "block" }, "Hello, as JSON, where one was sent", hellos[index]!));
    element.addEventListener("drop", (event) => {
      const file = event.dataTransfer?.files[0];
      if (!file) return;
      event.preventDefault();
      event.stopPropagation();
      void choose(file.name, file);
    });
    hellos[index]!.addEventListener("change", run);
    show();
    return element;
  };
  void run();
  return h("div", { class: "compare" }, h("div", { class: "columns" }, side(0), side(1)), result);
}

function shown({ identities, resolution, layers, note }: Comparison): HTMLElement[] {
  const differences = resolution.differences.map(({ field, local, remote }): [string, string] => [field, `${local || "—"} → ${remote || "—"}`]);
  const known = identities.map((one, index) => card(index === 0 ? "First identity" : "Second identity",
    facts(Object.entries(one).filter(([, value]) => value !== "" && value !== 0).map(([field, value]): [string, string] => [field, String(value)]))));
  const both = h("div", { class: "columns" }, ...known);
  const handshake = card("Handshake",
    facts([["Mode", resolution.mode], ["Rule", `${resolution.rule}: ${RULES[resolution.rule]}`], ["Map", resolution.avpMapId || "none"]]),
    h("h3", {}, "Differences of identity"), differences.length ? facts(differences) : h("p", {}, "No known field differs."));
  if (!layers) return [both, handshake, h("p", { class: "note" }, note)];
  const most = Math.max(...layers.flatMap(({ key, value }) => [key.relative, value.relative]).filter(Number.isFinite), Number.MIN_VALUE);
  const cell = ({ maxAbs, relative }: { maxAbs: number; relative: number }) =>
    [h("td", {}, h("meter", { min: 0, max: 1, value: Math.min(1, relative / most) || 0, "aria-label": "relative to the largest" }), ` ${number(relative, short)}`), h("td", {}, number(maxAbs, short))];
  const head = ["Layer", "Keys, relative", "Keys, largest", "Values, relative", "Values, largest"].map((name) => h("th", { scope: "col" }, name));
  const rows = layers.map(({ layer, key, value }) => h("tr", {}, h("th", { scope: "row" }, String(layer)), ...cell(key), ...cell(value)));
  const table = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Difference by layer" },
    h("table", {}, h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...rows)));
  return [both, handshake, card("KV-cache, difference by layer", h("p", { class: "note" }, `${note} Relative: norm of the difference over the norm of the first.`), table)];
}
