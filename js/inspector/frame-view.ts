// One frame: bytes, metadata, dialect, payload.

import type { FrameHead, Metadata } from "avp-wasm";
import { bytes, card, facts, h, hex, number } from "./dom.js";
import { headerView, hexCells } from "./header-view.js";
import { heatMapView } from "./heatmap.js";
import type { Opened, Trouble } from "./protocol.js";

/** `left` is aborted when the view is removed. */
export function frameView(name: string, opened: Opened, left: AbortSignal): HTMLElement {
  const { head, trouble } = opened;
  return h("div", { class: "frame" },
    h("div", { class: "title" }, h("h2", {}, name), h("p", {}, `${bytes(opened.size)} · ${head.metadata.payloadType.replace("_", " ")} · ${head.metadata.mode}`)),
    trouble && troubleView(trouble),
    card("Bytes", headerView(opened)),
    h("div", { class: "columns" }, card("How it was read", facts(reading(opened))), card("Metadata", facts(metadata(head.metadata)))),
    opened.hybrid && hybridView(opened.hybrid),
    opened.payload && opened.kv && heatMapView(opened.payload, opened.kv, left),
  );
}

function hybridView({ chunks, count }: NonNullable<Opened["hybrid"]>): HTMLElement {
  const items = chunks.map(({ kind, length, confidence, text, cut }) =>
    h("li", {}, h("b", {}, `${kind}, ${bytes(length)}, confidence ${number(confidence, (value) => value.toFixed(2))}`),
      text !== null && h("blockquote", {}, text), cut && h("p", { class: "note" }, "Only the beginning of this text is shown.")));
  return card("Hybrid payload", h("ol", { class: "chunks" }, ...items),
    chunks.length < count && h("p", { class: "note" }, `The first ${chunks.length} of ${count} chunks.`));
}

export function troubleView({ code, message, offset, unpacked, around }: Trouble): HTMLElement {
  return h("section", { class: "card trouble", role: "alert" },
    h("h2", {}, h("code", {}, code)),
    h("p", {}, message, offset === null ? "" : `, at byte ${offset}${unpacked ? " of the unpacked payload" : ""}`),
    around && around.bytes.length > 0 && hexCells(around.bytes, around.start, (at) => (at === offset ? "wrong" : "")));
}

function reading({ head, checksum, payload }: Opened): [string, string][] {
  const sum = checksum
    ? `${checksum.ok ? "right" : "wrong"}: 0x${hex(checksum.actual, 8)}${checksum.ok ? "" : `, the frame says 0x${hex(checksum.expected, 8)}`}`
    : head.metadata.payloadChecksum === null ? "none sent" : "not compared";
  const packed = head.frameLength - head.payloadOffset;
  return [
    ["Dialect", head.dialect ?? "0.2 or 0.3"],
    ["Why", dialectReason(head)],
    ["Checksum", sum],
    ["Compression", head.compressed ? `zstd, ${bytes(packed)}${payload ? ` from ${bytes(payload.size)}` : ""}` : "none"],
    ["Payload", `${packed} bytes from byte ${head.payloadOffset}`],
  ];
}

/** Each dialect has one flags byte for given metadata, so both together determine the dialect. */
function dialectReason({ dialect, flags, metadata }: FrameHead): string {
  const bits = `flags 0x${hex(flags)}`;
  if (dialect === null) return `${bits} and the metadata mean the same in both dialects`;
  if (metadata.payloadChecksum !== null) return `it has a checksum, which only dialect 0.3 writes; ${bits} agrees`;
  const parts = [
    metadata.payloadType === "kv_cache" && `a KV-cache is bit ${dialect === "0.2" ? "0x08" : "0x04"}`,
    metadata.avpMapId !== "" && `a map is bit ${dialect === "0.2" ? "0x04" : "0x02"}`,
    metadata.mode === "hybrid" && "hybrid is bit 0x02, and only 0.2 has it",
    metadata.mode === "json" && `JSON mode is number ${dialect === "0.2" ? 2 : 1}`,
  ].filter(Boolean);
  return `in ${dialect} ${parts.length ? parts.join(", ") : "the metadata's mode is known"}; ${bits} agrees`;
}

function metadata(all: Metadata): [string, string][] {
  const rows = Object.entries(all).flatMap(([name, value]): [string, string][] => {
    if (name === "extra") return Object.entries(all.extra).map(([key, text]) => [`extra: ${key}`, JSON.stringify(text)]);
    // These two say by null that they were not sent, and the others by 0.
    const isOptional = name === "confidenceScore" || name === "payloadChecksum";
    if (value === "" || value === null || (value === 0 && !isOptional)) return [];
    // A float32 has seven digits; the rest is what float64 makes of it.
    const score = (value: number) => String(Number(value.toPrecision(7)));
    const text =
      name === "tensorShape" ? `[${all.tensorShape.join(", ")}]`
      : name === "payloadChecksum" ? `0x${hex(Number(value), 8)}`
      : name === "confidenceScore" ? number(Number(value), score)
      : String(value);
    return text === "[]" ? [] : [[name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`), text]];
  });
  return rows;
}
