// The page: which view is shown, and every way in.

import { compareView } from "./compare.js";
import { announce, h, progress } from "./dom.js";
import { frameView, troubleView } from "./frame-view.js";
import { readFile, readText, type Input } from "./input.js";
import { packetView } from "./packet-editor.js";
import { ask, type Trouble } from "./protocol.js";

const PACKET = "FETCH|HR|return:HR-Agent|p:2|aacp:1.2";
const SAMPLES = { "kv-cache": "A KV-cache", hybrid: "A hybrid frame", broken: "A broken frame" };
const view = document.querySelector<HTMLElement>("#view")!;
let stop = new AbortController();

function show(name: "frame" | "compare" | "packet", ...children: HTMLElement[]): void {
  stop.abort();
  document.body.dataset["view"] = name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  view.replaceChildren(...children);
}

async function open(name: string, input: Input): Promise<void> {
  if ("packet" in input) return show("packet", packetView(input.packet));
  const bar = progress(`Reading ${name}`, () => stop.abort());
  show("frame", bar.element);
  const mine = (stop = new AbortController());
  try {
    const opened = await ask("open", { blob: input.blob }, { signal: mine.signal, progress: bar.set });
    if (mine !== stop) return;
    view.replaceChildren(frameView(name, input.blob, opened), entry());
    announce(`${name} is open`);
  } catch (error) {
    const trouble = error as Trouble;
    if (mine === stop) view.replaceChildren(...(trouble.code === "cancelled" ? [] : [troubleView(trouble)]), entry());
  }
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
  if (what === "compare") show("compare", compareView());
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
