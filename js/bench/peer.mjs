// The JavaScript peer: frames written by hand with protobufjs and fzstd.
//
// It uses static code of protobufjs's compiler, the fastest form. Payloads are views too, and the checksum processes sixteen bytes
// a step as little-endian words, the fastest common method in plain JavaScript.

import { readFileSync } from "node:fs";
import { decompress } from "fzstd";
import protobuf from "protobufjs";

const schema = readFileSync(new URL("../../proto/avp.proto", import.meta.url), "utf8");
const Metadata = protobuf.parse(schema).root.lookupType("avp.v1.Metadata");

export function decode(bytes) {
  if (bytes[0] !== 0x41 || bytes[1] !== 0x56 || bytes[2] !== 1) throw new Error("no frame");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [payloadLength, metadataLength] = [view.getUint32(4, true), view.getUint32(8, true)];
  if (metadataLength > payloadLength || bytes.length !== 12 + payloadLength) throw new Error("wrong length");
  const metadata = Metadata.decode(bytes.subarray(12, 12 + metadataLength));
  return { flags: bytes[3], metadata, payload: bytes.subarray(12 + metadataLength) };
}

export function unpack(frame, limit = 2 ** 30) {
  const payload = frame.flags & 1 ? decompress(frame.payload) : frame.payload;
  if (payload.length > limit) throw new Error("too large");
  if (frame.metadata.payloadChecksum != null && frame.metadata.payloadChecksum !== crc32(payload)) throw new Error("checksum");
  return payload;
}

export function encode(fields, payload) {
  const head = encodeHeader(fields, payload);
  return joined(new Uint8Array(head.length + payload.length), head, payload);
}

export function encodeInto(target, fields, payload) {
  return joined(target, encodeHeader(fields, payload), payload);
}

function joined(target, head, payload) {
  target.set(head);
  target.set(payload, head.length);
  return target.subarray(0, head.length + payload.length);
}

export function encodeHeader(fields, payload) {
  const metadata = Metadata.encode(Metadata.create({ ...fields, payloadChecksum: crc32(payload) })).finish();
  const head = new Uint8Array(12 + metadata.length);
  const view = new DataView(head.buffer);
  head.set([0x41, 0x56, 1, 0]);
  view.setUint32(4, metadata.length + payload.length, true);
  view.setUint32(8, metadata.length, true);
  head.set(metadata, 12);
  return head;
}

const tables = Array.from({ length: 16 }, () => new Int32Array(256));
for (let byte = 0; byte < 256; byte += 1) {
  let crc = byte;
  for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? 0xedb88320 ^ (crc >>> 1) : crc >>> 1;
  tables[0][byte] = crc;
}
for (let byte = 0; byte < 256; byte += 1) {
  for (let row = 1; row < 16; row += 1) {
    tables[row][byte] = tables[0][tables[row - 1][byte] & 0xff] ^ (tables[row - 1][byte] >>> 8);
  }
}
const [t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, ta, tb, tc, td, te, tf] = tables;

export function crc32(bytes) {
  if (bytes.length < 16) return ~byByte(-1, bytes) >>> 0;
  const head = -bytes.byteOffset & 3;
  const words = new Int32Array(bytes.buffer, bytes.byteOffset + head, ((bytes.length - head) >> 4) << 2);
  const tail = bytes.subarray(head + words.byteLength);
  return ~byByte(byWord(byByte(-1, bytes.subarray(0, head)), words), tail) >>> 0;
}

function byByte(crc, bytes) {
  for (let at = 0; at < bytes.length; at += 1) crc = t0[(crc ^ bytes[at]) & 0xff] ^ (crc >>> 8);
  return crc;
}

function byWord(crc, words) {
  for (let at = 0; at < words.length; at += 4) {
    const a = crc ^ words[at];
    const b = words[at + 1];
    const c = words[at + 2];
    const d = words[at + 3];
    crc =
      tf[a & 0xff] ^ te[(a >>> 8) & 0xff] ^ td[(a >>> 16) & 0xff] ^ tc[a >>> 24] ^
      tb[b & 0xff] ^ ta[(b >>> 8) & 0xff] ^ t9[(b >>> 16) & 0xff] ^ t8[b >>> 24] ^
      t7[c & 0xff] ^ t6[(c >>> 8) & 0xff] ^ t5[(c >>> 16) & 0xff] ^ t4[c >>> 24] ^
      t3[d & 0xff] ^ t2[(d >>> 8) & 0xff] ^ t1[(d >>> 16) & 0xff] ^ t0[d >>> 24];
  }
  return crc;
}
