// The page: views, navigation and input.

import { compareView } from "./compare.js";
import { announce, h } from "./dom.js";
import { frameView, troubleView } from "./frame-view.js";
import { readFile, readText, type Input } from "./input.js";
import { packetAddress, packetView } from "./packet-editor.js";
import { ask, type Opened } from "./protocol.js";
import { questions } from "./question.js";

const SAMPLES = { "kv-cache": "A KV-cache", hybrid: "A hybrid frame", broken: "A broken frame" };
const view = document.querySelector<HTMLElement>("#view")!;
/** Aborts pending requests of the current view. */
let leave = new AbortController();
/** The last opened frame, kept when the view changes. */
let last: { name: string; opened: Opened } | null = null;

function show(name: "frame" | "compare" | "packet", make: (left: AbortSignal) => HTMLElement[]): void {
  leave.abort();
  leave = new AbortController();
  document.body.dataset["view"] = name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  view.replaceChildren(...make(leave.signal));
}

const showFrame = () => show("frame", (left) => [...(last ? [frameView(last.name, last.opened, left)] : []), entry()]);
const showPacket = (packet?: string) => show("packet", () => [packetView(packet)]);

/** Opens an input under a new history entry. */
function open(name: string, input: Input): void {
  const address = "packet" in input ? packetAddress(input.packet) : "#frame";
  if (location.hash !== address) history.pushState(null, "", address);
  take(name, input);
}

function take(name: string, input: Input): void {
  if ("packet" in input) showPacket(input.packet);
  else void openFrame(name, input.blob);
}

async function openFrame(name: string, blob: Blob): Promise<void> {
  last = null;
  show("frame", () => []);
  const opened = await questions(view, leave.signal)(`Reading ${name}`, "open", { blob });
  if (!opened) return;
  const broken = "code" in opened;
  if (!broken) last = { name, opened };
  showFrame();
  if (broken && opened.code !== "cancelled") view.prepend(troubleView(opened));
  announce(broken ? `${name} is not open: ${opened.message}` : `${name} is open`);
  view.focus({ preventScroll: true });
}

/** The input of a frame: a file, a text, a sample. */
function entry(): HTMLElement {
  const picker = h("input", { type: "file", id: "file", onchange: async () => {
    const file = picker.files?.[0];
    if (file) open(file.name, await readFile(file));
  } });
  const text = h("textarea", { id: "text", rows: 3, spellcheck: "false" });
  const buttons = Object.entries(SAMPLES).map(([name, title]) =>
    h("button", { type: "button", "data-sample": name, onclick: async () => open(`sample ${name}`, await ask("sample", { name })) }, title));
  return h("section", { class: "entry card" },
    h("h2", {}, "Open a frame or a packet"),
    h("label", { class: "drop", for: "file" }, h("b", {}, "Drop a file here, or choose one"), picker),
    h("label", { class: "block", for: "text" }, "Or paste hexadecimal, base64 or a packet"), text,
    h("div", { class: "row" }, h("button", { type: "button", class: "first", onclick: () => text.value.trim() && open("pasted text", readText(text.value)) }, "Open text")),
    h("p", { class: "block" }, "Or look at a sample"), h("div", { class: "row" }, ...buttons));
}

function route(): void {
  const [what = "", rest = ""] = location.hash.slice(1).split(/=(.*)/s);
  if (what === "compare") show("compare", (left) => [compareView(left)]);
  else if (what === "packet") showPacket(rest === "" ? undefined : decoded(rest));
  else if (rest === "") showFrame();
  else take("the link's frame", readText(decoded(rest)));
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
  if (file) open(file.name, await readFile(file));
  else if (text) open("dropped text", readText(text));
});
addEventListener("paste", async (event) => {
  if (event.target instanceof HTMLTextAreaElement) return;
  const file = event.clipboardData?.files[0];
  const text = event.clipboardData?.getData("text");
  if (file) open(file.name, await readFile(file));
  else if (text) open("pasted text", readText(text));
});
route();
