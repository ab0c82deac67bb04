// A place of the page that shows how far a question to the worker is.

import { progress } from "./dom.js";
import { ask, type Name, type Requests, type Trouble } from "./protocol.js";

/**
 * Asks for `place`, which shows progress and a button to stop it. A newer question for the same place takes the older one's
 * place, and `left` ends them all: whoever asked gets `null` then, and has nothing to show.
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
