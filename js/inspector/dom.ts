// Helpers that create elements.

type Child = Node | string | null | false;

/** An element with attributes, listeners (`onclick`) and children. Text is never parsed as markup. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, unknown> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value as EventListener);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child): child is Node | string => child !== null && child !== false));
  return element;
}

/** Announces a text to screen readers. */
export function announce(text: string): void {
  document.querySelector("#status")!.textContent = text;
}

export const hex = (value: number, digits = 2): string => value.toString(16).padStart(digits, "0");
export const bytes = (count: number): string =>
  count < 1024 ? `${count} B` : count < 1 << 20 ? `${(count / 1024).toFixed(1)} KiB` : `${(count / (1 << 20)).toFixed(1)} MiB`;

/** A number as `write` writes it. */
export const number = (value: number, write: (value: number) => string): string =>
  Number.isNaN(value) ? "not a number" : write(value);

/** Three significant digits. */
export const short = (value: number): string =>
  value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential(2) : value.toPrecision(3);

/** A text with code in backticks. */
export const coded = (text: string): (Node | string)[] =>
  text.split("`").map((part, index) => (index % 2 === 1 ? h("code", {}, part) : part));

/** A table of names and values. */
export function facts(rows: [string, Node | string][]): HTMLElement {
  return h("dl", { class: "facts" }, ...rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** A card with a heading. */
export function card(title: string, ...children: Child[]): HTMLElement {
  return h("section", { class: "card" }, h("h2", {}, title), ...children);
}

/** A progress bar with a stop button. */
export function progress(label: string, stop: () => void): { element: HTMLElement; set(part: number | null): void } {
  const meter = h("progress", { max: 1, "aria-label": label });
  const element = h("div", { class: "card progress" }, h("p", {}, `${label} …`), meter, h("button", { type: "button", onclick: stop }, "Cancel"));
  return { element, set: (part) => (part === null ? meter.removeAttribute("value") : (meter.value = part)) };
}
