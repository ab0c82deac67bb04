// Detects input: bytes in hexadecimal or base64, or a packet.

/** A frame as a file, or the text of a packet. */
export type Input = { blob: Blob } | { packet: string };

export function readText(text: string): Input {
  const plain = text.trim().replace(/\b0x/gi, "").replace(/[\s,]/g, "");
  if (/^(41|[0-9a-f]{2})([0-9a-f]{2})*$/i.test(plain)) {
    return { blob: new Blob([Uint8Array.from(plain.match(/../g)!, (pair) => parseInt(pair, 16))]) };
  }
  const base64 = plain.replaceAll("-", "+").replaceAll("_", "/").replace(/=+$/, "");
  if (base64.length > 1 && base64.length % 4 !== 1 && /^[A-Za-z0-9+/]+$/.test(base64)) {
    return { blob: new Blob([Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))]) };
  }
  return { packet: text.trim() };
}

/** Text with a `|` is a packet. Every other file is treated as a frame, whose error is then shown. */
export async function readFile(file: Blob): Promise<Input> {
  if (file.size > 64 << 10) return { blob: file };
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    return text.includes("|") && !/[\0-\x08\x0e-\x1f]/.test(text) && !text.startsWith("AV\u0001") ? { packet: text.trim() } : { blob: file };
  } catch {
    return { blob: file };
  }
}
