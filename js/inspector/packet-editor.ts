// An AACP packet while it is written: findings under their places, fixes to press, English beside it.

import type { Finding } from "avp-wasm";
import { card, coded, h } from "./dom.js";
import { ask } from "./protocol.js";

/** The packet written last; it outlives a change of view. */
let written = "FETCH|HR|return:HR-Agent|p:2|aacp:1.2";

/** Half a character has no bytes, so the address has a mark in its place. */
export const packetAddress = (packet: string) => `#packet=${encodeURIComponent(packet.replace(/\p{Surrogate}/gu, "\ufffd"))}`;

export function packetView(text = written): HTMLElement {
  const input = h("textarea", { id: "packet", rows: 3, spellcheck: "false", autocapitalize: "off", "aria-describedby": "verdict" });
  input.value = text;
  const marks = h("div", { class: "marks", "aria-hidden": "true" });
  const strict = h("input", { type: "checkbox", onchange: () => check() });
  const verdict = h("p", { id: "verdict", role: "status" });
  const findings = h("ul", { class: "findings" });
  const english = h("p", { class: "english" });
  let latest = 0;

  async function check(): Promise<void> {
    const mine = ++latest;
    const packet = (written = input.value);
    const { validation, explanation } = await ask("packet", { text: packet, strict: strict.checked });
    if (mine !== latest) return;
    const errors = validation.findings.filter(({ severity }) => severity === "error").length;
    verdict.textContent = validation.valid ? "Valid" : `Not valid: ${errors} ${errors === 1 ? "error" : "errors"}`;
    verdict.className = validation.valid ? "right" : "wrong";
    marks.replaceChildren(...underlined(packet, validation.findings));
    findings.replaceChildren(...validation.findings.map((finding) => h("li", { class: finding.severity },
      h("code", {}, finding.code), " ", ...coded(finding.message), finding.fix && h("button", { type: "button", onclick: () => apply(finding) }, ...coded(finding.fix.message)))));
    english.textContent = explanation?.text ?? "This is no packet yet.";
    english.lang = "en";
  }
  function apply(finding: Finding): void {
    input.value = fixed(input.value, finding);
    input.focus();
    remember();
    void check();
  }
  // Not at every key: a browser takes only so many changes of the address.
  const remember = () => history.replaceState(null, "", packetAddress(input.value));
  input.addEventListener("change", remember);
  input.addEventListener("input", check);
  input.addEventListener("scroll", () => (marks.scrollTop = input.scrollTop));
  remember();
  void check();
  return h("div", { class: "columns" },
    card("Packet", h("label", { for: "packet", class: "block" }, "One AACP packet"), h("div", { class: "editor" }, marks, input),
      h("label", { class: "check" }, strict, " Strict: as for a packet that we send"), verdict, findings),
    card("In English", english));
}

/** The text again, with a mark around every place that a finding names, and one where something is missing. */
function underlined(text: string, findings: Finding[]): (HTMLElement | string)[] {
  const classOf = (over: Finding[]) => (over.some(({ severity }) => severity === "error") ? "error" : "warning");
  const missing = (at: number): HTMLElement[] => {
    const here = findings.filter(({ span }) => span.start === at && span.end === at);
    return here.length === 0 ? [] : [h("mark", { class: `${classOf(here)} missing` })];
  };
  const cuts = [...new Set([0, text.length, ...findings.flatMap(({ span }) => [span.start, span.end])])].sort((a, b) => a - b);
  return cuts.flatMap((start, index) => {
    const part = text.slice(start, cuts[index + 1] ?? start);
    const over = findings.filter(({ span }) => span.start <= start && start < span.end);
    return [...missing(start), over.length === 0 || part === "" ? part : h("mark", { class: classOf(over) }, part)];
  });
}

/** The packet with a finding's fix applied, as the contract describes the actions. */
export function fixed(text: string, { span, fix }: Finding): string {
  const [before, after] = [text.slice(0, span.start), text.slice(span.end)];
  switch (fix?.action) {
    case "replace": return before + (fix.text ?? "") + after;
    case "append": return `${text}|${fix.text ?? ""}`;
    // With one of the pipes beside it.
    case "remove": return before.endsWith("|") ? before.slice(0, -1) + after : before + after.replace(/^\|/, "");
    case "encode": return encoded(text);
    default: return text;
  }
}

/** The packet with what cannot stand in a value percent-encoded, which `enc:pct` then says. */
function encoded(text: string): string {
  const [task = "", domain = "", ...rest] = text.split("|");
  const said = rest.includes("enc:pct");
  const values = rest.map((field) => field.replace(said ? /\p{Cc}/gu : /[%\p{Cc}]/gu, encodeURIComponent));
  return [task, domain, ...values, ...(said ? [] : ["enc:pct"])].join("|");
}
