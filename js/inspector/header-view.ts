// The first bytes of a frame by field: pointing at bytes highlights the legend and vice versa.

import { h, hex } from "./dom.js";
import type { Opened } from "./protocol.js";

interface Field {
  name: string;
  start: number;
  end: number;
  meaning: string;
}

const SHOWN = 512;

function fields({ head }: Opened): Field[] {
  const flags = head.flagNames.length === 0 ? "no flag set" : head.flagNames.join(", ");
  return [
    { name: "magic", start: 0, end: 2, meaning: "“AV”: this is a frame" },
    { name: "version", start: 2, end: 3, meaning: `header version ${head.version}` },
    { name: "flags", start: 3, end: 4, meaning: `0x${hex(head.flags)}: ${flags}` },
    { name: "payload length", start: 4, end: 8, meaning: `${head.payloadLength} bytes of metadata and payload` },
    { name: "metadata length", start: 8, end: 12, meaning: `${head.metadataLength} bytes` },
    { name: "metadata", start: 12, end: head.payloadOffset, meaning: "protobuf; its fields are in the table" },
    { name: "payload", start: head.payloadOffset, end: head.frameLength, meaning: `starts at byte ${head.payloadOffset}` },
  ].filter(({ start, end }) => end > start);
}

export function headerView(opened: Opened): HTMLElement {
  const all = fields(opened);
  const shown = opened.bytes.subarray(0, SHOWN);
  const cells = hexCells(shown, 0, (offset) => `field-${all.findIndex(({ end }) => offset < end)}`);
  const legend = all.map(({ name, start, end, meaning }, index) =>
    h("li", {}, h("button", { type: "button", class: `field field-${index}`, "data-field": index, "aria-pressed": "false" },
      h("b", {}, name), h("span", { class: "offset" }, end - start === 1 ? `byte ${start}` : `bytes ${start}–${end - 1}`), h("span", {}, meaning))),
  );
  const view = h("div", { class: "bytes" }, cells, h("ol", { class: "legend" }, ...legend));
  const light = (event: Event) => {
    const of = (event.target as Element).closest?.("[data-field], .byte");
    const index = of?.getAttribute("data-field") ?? [...(of?.classList ?? [])].find((name) => name.startsWith("field-"))?.slice(6);
    for (const one of view.querySelectorAll(".lit")) one.classList.remove("lit");
    for (const one of view.querySelectorAll("[data-field]")) one.setAttribute("aria-pressed", String(one.getAttribute("data-field") === index));
    if (index) for (const one of view.querySelectorAll(`.field-${index}`)) one.classList.add("lit");
  };
  for (const type of ["pointerover", "focusin", "click"]) view.addEventListener(type, light);
  const rest = shown.length < opened.size ? h("p", { class: "note" }, `The first ${shown.length} bytes; the file has ${opened.size}.`) : null;
  return h("div", {}, view, rest);
}

/** Bytes in hexadecimal, up to 16 a line, each with the class `classOf(offset)`. */
export function hexCells(bytes: Uint8Array, start: number, classOf: (offset: number) => string): HTMLElement {
  const cells = Array.from(bytes, (byte, index) => h("span", { class: `byte ${classOf(start + index)}` }, hex(byte)));
  return h("div", { class: "hex", role: "img", tabindex: 0, "aria-label": `${bytes.length} bytes from byte ${start}, in hexadecimal` }, ...cells);
}
