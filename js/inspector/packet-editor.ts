// The editor of AACP packets: findings in the text, fixes as buttons, the explanation in English.

import type { Finding } from "avp-wasm";
import { card, coded, h } from "./dom.js";
import { ask } from "./protocol.js";

/** The last packet, kept when the view changes. */
let written = "FETCH|HR|return:HR-Agent|p:2|aacp:1.2";

/** Half a surrogate pair has no UTF-8, so the address has U+FFFD. */
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
    english.textContent = explanation?.text ?? "Not a packet yet.";
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

/** The text with a mark around the range of each finding, empty ranges included. */
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

/** The packet with a finding's fix applied. */
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

/** The packet with its values percent-encoded, and `enc:pct`. */
function encoded(text: string): string {
  const [task = "", domain = "", ...rest] = text.split("|");
  const said = rest.includes("enc:pct");
  const values = rest.map((field) => field.replace(said ? /\p{Cc}/gu : /[%\p{Cc}]/gu, encodeURIComponent));
  return [task, domain, ...values, ...(said ? [] : ["enc:pct"])].join("|");
}
