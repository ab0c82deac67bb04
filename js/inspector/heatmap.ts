// The heat map of a KV-cache: a row for each layer and head, a column for each token, the norm of the vector as colour.

import type { KvShape } from "avp-wasm";
import { announce, bytes, card, facts, h, number, short } from "./dom.js";
import type { HeatMap } from "./protocol.js";
import { questions } from "./question.js";

// Five points of viridis (Nathaniel Smith, Stefan van der Walt; CC0), which is readable without colour.
const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]] as const;

/** The colour of NaN and infinities, the same as `.odd` in the style sheet. */
const ODD = [255, 0, 255, 255];

/** `left` is aborted when the view is removed. */
export function heatMapView(payload: Blob, shape: KvShape, left: AbortSignal): HTMLElement {
  const place = h("div", { class: "picture" });
  const question = questions(place, left);
  const show = async (tensor: "key" | "value") => {
    const map = await question("Reading the cache", "heatMap", { payload, tensor });
    if (map) place.replaceChildren(...("code" in map ? [h("p", { class: "note" }, `No picture: ${map.message}.`)] : draw(map, tensor)));
  };
  const choice = (tensor: "key" | "value") =>
    h("label", {}, h("input", { type: "radio", name: "tensor", value: tensor, checked: tensor === "key", onchange: () => show(tensor) }), ` ${tensor}s`);
  void show("key");
  const scale = 2 * shape.numLayers * shape.numKvHeads * shape.seqLen * shape.headDim * (shape.dtype === "float32" ? 4 : 2);
  return card("KV-cache",
    facts([["Shape", `${shape.numLayers} layers × ${shape.numKvHeads} heads × ${shape.seqLen} tokens × ${shape.headDim}`], ["Numbers", `${shape.dtype}, ${bytes(scale)}`]]),
    h("fieldset", { class: "choice" }, h("legend", {}, "Norms of"), choice("key"), choice("value")), place);
}

function draw({ shape, tokens, rows, norms, sampled }: HeatMap, tensor: string): HTMLElement[] {
  if (norms.length === 0) return [h("p", { class: "note" }, "The cache holds no tokens.")];
  const finite = norms.filter(Number.isFinite);
  const [low, high] = finite.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
  const odd = norms.length - finite.length;
  const [width, height] = [tokens.length, rows.length];
  const canvas = h("canvas", { width, height, tabindex: 0, role: "application", "aria-roledescription": "heat map",
    "aria-label": `Norms of ${tensor}s, ${rows.length} rows of layers and heads by ${tokens.length} tokens. Arrow keys move.`, "aria-describedby": "heat-value" });
  canvas.style.height = `${Math.max(160, height * Math.min(12, Math.max(2, 320 / height)))}px`;
  const image = new ImageData(width, height);
  norms.forEach((value, index) => image.data.set(Number.isFinite(value) ? colour((value - low) / (high - low || 1)) : ODD, index * 4));
  canvas.getContext("2d")!.putImageData(image, 0, 0);
  const cursor = h("div", { class: "cursor", hidden: true });
  const value = h("p", { id: "heat-value", class: "value" }, "Point at the picture or tap it, or focus it and use the arrow keys.");
  let [x, y] = [0, 0];
  const at = (column: number, row: number) => {
    [x, y] = [Math.min(width - 1, Math.max(0, column)), Math.min(height - 1, Math.max(0, row))];
    const { layer, head } = rows[y]!;
    value.textContent = `Layer ${layer}, head ${head}, token ${tokens[x]}: ${number(norms[y * width + x]!, (norm) => norm.toPrecision(4))}`;
    cursor.hidden = false;
    Object.assign(cursor.style, { left: `${(x / width) * 100}%`, top: `${(y / height) * 100}%`, width: `${100 / width}%`, height: `${100 / height}%` });
  };
  const point = ({ offsetX, offsetY }: PointerEvent) => at(Math.floor((offsetX / canvas.clientWidth) * width), Math.floor((offsetY / canvas.clientHeight) * height));
  // A finger that taps does not move.
  for (const type of ["pointermove", "pointerdown"] as const) canvas.addEventListener(type, point);
  canvas.addEventListener("keydown", (event) => {
    const moves: Record<string, [number, number]> = { ArrowLeft: [x - 1, y], ArrowRight: [x + 1, y], ArrowUp: [x, y - 1], ArrowDown: [x, y + 1], Home: [0, y], End: [width - 1, y] };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    at(...move);
    announce(value.textContent!);
  });
  const ramp = h("canvas", { width: 64, height: 1, class: "ramp", "aria-hidden": "true" });
  const stripe = new ImageData(64, 1);
  for (let step = 0; step < 64; step++) stripe.data.set(colour(step / 63), step * 4);
  ramp.getContext("2d")!.putImageData(stripe, 0, 0);
  return [
    h("div", { class: "map" }, canvas, cursor),
    h("p", { class: "axes" }, h("span", {}, `token\u00a0${tokens[0]}`), h("span", {}, `rows: layer 0 head 0 at the top, to layer ${shape.numLayers - 1}`), h("span", {}, `token\u00a0${tokens.at(-1)}`)),
    low < high && h("div", { class: "scale" }, h("span", {}, short(low)), ramp, h("span", {}, short(high))),
    low === high && h("p", { class: "note" }, `Every ${odd > 0 ? "other " : ""}norm is ${short(low)}.`),
    odd > 0 && h("div", { class: "scale" }, h("span", { class: "odd" }), `${odd === 1 ? "1 norm is" : `${odd} norms are`} infinite or not a number`),
    value,
    sampled && h("p", { class: "note" }, `Sampled: ${rows.length} of ${shape.numLayers * shape.numKvHeads} rows, ${tokens.length} of ${shape.seqLen} tokens.`),
  ].filter((part) => part !== false);
}

function colour(part: number): [number, number, number, number] {
  const at = Math.min(0.9999, Math.max(0, part)) * (VIRIDIS.length - 1);
  const [from, to] = [VIRIDIS[Math.floor(at)]!, VIRIDIS[Math.floor(at) + 1]!];
  const mix = (channel: 0 | 1 | 2) => Math.round(from[channel] + (to[channel] - from[channel]) * (at % 1));
  return [mix(0), mix(1), mix(2), 255];
}
