// Reading a file piece by piece.

/** Reports progress from 0 to 1; `null` if unknown. */
export type Step = (part: number | null) => void;

export const PIECE = 4 << 20;

export async function read(blob: Blob, start: number, end: number): Promise<Uint8Array> {
  return new Uint8Array(await blob.slice(start, end).arrayBuffer());
}

/** All of a blob in memory. */
export async function readAll(blob: Blob, step: Step): Promise<Uint8Array> {
  const bytes = new Uint8Array(blob.size);
  for (let start = 0; start < blob.size; start += PIECE) {
    if (start > 0) step(start / blob.size);
    bytes.set(await read(blob, start, start + PIECE), start);
  }
  return bytes;
}
