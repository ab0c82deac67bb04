// The page: which view is shown, and every way in.

import { compareView } from "./compare.js";
import { announce, h } from "./dom.js";
import { frameView, troubleView } from "./frame-view.js";
import { readFile, readText, type Input } from "./input.js";
import { packetView } from "./packet-editor.js";
import { ask } from "./protocol.js";
import { questions } from "./question.js";

const PACKET = "FETCH|HR|return:HR-Agent|p:2|aacp:1.2";
const SAMPLES = { "kv-cache": "A KV-cache", hybrid: "A hybrid frame", broken: "A broken frame" };
const view = document.querySelector<HTMLElement>("#view")!;
/** Ends what the view that is shown still waits for. */
let leave = new AbortController();

function show(name: "frame" | "compare" | "packet", ...children: HTMLElement[]): void {
  leave.abort();
  leave = new AbortController();
  document.body.dataset["view"] = name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  view.replaceChildren(...children);
}

async function open(name: string, input: Input): Promise<void> {
  if ("packet" in input) return show("packet", packetView(input.packet));
  show("frame");
  const left = leave.signal;
  const opened = await questions(view, left)(`Reading ${name}`, "open", { blob: input.blob });
  if (!opened) return;
  if ("code" in opened) view.replaceChildren(...(opened.code === "cancelled" ? [] : [troubleView(opened)]), entry());
  else view.replaceChildren(frameView(name, opened, left), entry());
  announce("code" in opened ? `${name} is not open: ${opened.message}` : `${name} is open`);
  view.focus({ preventScroll: true });
}

/** Where a frame comes in: a file, a text, a sample. */
function entry(): HTMLElement {
  const picker = h("input", { type: "file", id: "file", onchange: async () => {
    const file = picker.files?.[0];
    if (file) void open(file.name, await readFile(file));
  } });
  const text = h("textarea", { id: "text", rows: 3, spellcheck: "false" });
  const buttons = Object.entries(SAMPLES).map(([name, title]) =>
    h("button", { type: "button", "data-sample": name, onclick: async () => open(`sample ${name}`, await ask("sample", { name })) }, title));
  return h("section", { class: "entry card" },
    h("h2", {}, "Open a frame or a packet"),
    h("label", { class: "drop", for: "file" }, h("b", {}, "Drop a file here, or choose one"), picker),
    h("label", { class: "block", for: "text" }, "Or paste hexadecimal, base64 or a packet"), text,
    h("div", { class: "row" }, h("button", { type: "button", class: "first", onclick: () => text.value.trim() && open("pasted text", readText(text.value)) }, "Open text"), ...buttons));
}

function route(): void {
  const [what = "", rest = ""] = location.hash.slice(1).split(/=(.*)/s);
  if (what === "compare") {
    show("compare");
    view.replaceChildren(compareView(leave.signal));
  }
  else if (what === "packet") show("packet", packetView(rest === "" ? PACKET : decoded(rest)));
  else if (rest !== "") void open("the link's frame", readText(decoded(rest)));
  else show("frame", entry());
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

addEventListener("hashchange", route);
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", async (event) => {
  event.preventDefault();
  const file = event.dataTransfer?.files[0];
  const text = event.dataTransfer?.getData("text");
  if (file) void open(file.name, await readFile(file));
  else if (text) void open("dropped text", readText(text));
});
addEventListener("paste", async (event) => {
  if (event.target instanceof HTMLTextAreaElement) return;
  const file = event.clipboardData?.files[0];
  const text = event.clipboardData?.getData("text");
  if (file) void open(file.name, await readFile(file));
  else if (text) void open("pasted text", readText(text));
});
route();
