// Requests to the worker, with their progress on the page.

import { progress } from "./dom.js";
import { ask, type Name, type Requests, type Trouble } from "./protocol.js";

/**
 * Makes requests that show progress and a stop button in `place`. A newer request cancels the older one, and `left` cancels
 * all: a cancelled request resolves to `null`.
 */
export function questions(place: HTMLElement, left: AbortSignal) {
  let latest = new AbortController();
  return async <N extends Name>(label: string, name: N, what: Requests[N]["ask"]): Promise<Requests[N]["answer"] | Trouble | null> => {
    latest.abort();
    const mine = (latest = new AbortController());
    const bar = progress(label, () => mine.abort());
    place.replaceChildren(bar.element);
    const signal = AbortSignal.any([mine.signal, left]);
    const answer = await ask(name, what, { signal, progress: bar.set }).catch((trouble: Trouble) => trouble);
    return mine === latest && !left.aborted ? answer : null;
  };
}
