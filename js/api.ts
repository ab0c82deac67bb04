/**
 * The JavaScript API of the Agent Vector Protocol (AVP) and of AACP, declared once for every package that offers it.
 *
 * ```js
 * import { decode, encode, unpack } from "avp-wasm";
 *
 * const bytes = encode({ modelId: "Qwen/Qwen2.5-0.5B" }, new Uint8Array([1, 2, 3]));
 * const frame = decode(bytes);
 * console.log(frame.metadata.modelId, unpack(frame).length);
 * ```
 *
 * Nothing needs to be freed. Bytes are `Uint8Array`s over ordinary memory: a shared, resizable or detached buffer throws a
 * `TypeError`, and so does every argument of a wrong type. Invalid data throws an {@link AvpError}.
 * @packageDocumentation
 */

/** The wire dialect of a frame: `"0.2"` is that of avp 0.2.x, `"0.3"` that of avp 0.3.0 to 0.6.x. */
export type Dialect = "0.2" | "0.3";
/** The contents of a frame's payload. Only avp 0.5 writes `"auto"`. */
export type PayloadType = "hidden_state" | "kv_cache" | "embedding" | "auto";
/** The number format of a tensor's elements. */
export type DType = "float32" | "float16" | "bfloat16" | "int8";
/** The number format of a KV-cache. */
export type KvDType = "float32" | "float16" | "bfloat16";
/** The communication mode of two agents. Only dialect 0.2 has `"hybrid"`. */
export type Mode = "latent" | "hybrid" | "json";
/** The handshake rule that selected the mode. */
export type Rule =
  | "hash_match"
  | "structural_match"
  | "shared_tokenizer"
  | "avp_map_file"
  | "vocab_overlap"
  | "json_fallback";

/** The metadata of a frame. Absent text is `""`, absent numbers are 0. */
export interface Metadata {
  sessionId: string;
  sourceAgentId: string;
  targetAgentId: string;
  modelId: string;
  /** Width of the model's hidden states. */
  hiddenDim: number;
  numLayers: number;
  payloadType: PayloadType;
  /** For a KV-cache, its own header is authoritative: avp 0.2 always writes `float32` here. */
  dtype: DType;
  /** Outermost axis first. */
  tensorShape: number[];
  mode: Mode;
  /** Id of the projection map applied to the tensors; `""` for none. */
  avpMapId: string;
  extra: Record<string, string>;
  /** 0 to 1, in dialects that have it. A value out of range, such as `NaN`, is passed through. */
  confidenceScore: number | null;
  /** CRC-32 of the uncompressed payload, if the sender wrote one. */
  payloadChecksum: number | null;
  /** Dialect 0.1's name for the hidden width. */
  embeddingDim: number;
  /** Dialect 0.1's name for the number format. */
  dataType: string;
  /** Dialect 0.1's name for the sender. */
  agentId: string | null;
  /** Dialect 0.1's task id. */
  taskId: string | null;
}

/** The part of a frame in front of its payload. Lengths and offsets are in bytes. */
export interface FrameHead {
  /** `null` if the frame means the same in both dialects. */
  dialect: Dialect | null;
  version: 1;
  flags: number;
  /** The names of the set flags, lowest bit first. */
  flagNames: string[];
  /** Length of metadata and payload together, from the header. */
  payloadLength: number;
  metadataLength: number;
  /** Offset of the payload in the frame. */
  payloadOffset: number;
  /** Length of the whole frame. */
  frameLength: number;
  /** Whether the payload is compressed with zstd. */
  compressed: boolean;
  metadata: Metadata;
}

/** A whole frame. */
export interface Frame extends FrameHead {
  /** The payload as it is in the frame: a view of the caller's bytes, neither copied nor verified. See {@link unpack}. */
  payload: Uint8Array;
}

/**
 * Decodes one whole frame of either dialect. The payload is not read, so the time does not depend on its length.
 * @throws {DecodeError} `truncated`, `trailing_bytes`, `bad_magic` and the core's other codes; `metadata_too_large` if
 * there is more than 1 MiB of metadata.
 */
export declare function decode(bytes: Uint8Array): Frame;

/**
 * Decodes header and metadata at the start of `bytes` and ignores the rest.
 * @throws {DecodeError} `truncated` if more bytes are needed; every other code is final. `metadata_too_large` if there is
 * more than 1 MiB of metadata.
 */
export declare function decodeHeader(bytes: Uint8Array): FrameHead;

export interface UnpackOptions {
  /** Longest uncompressed payload, in bytes. @defaultValue 1073741824 (1 GiB) */
  limit?: number;
  /** Whether to verify the checksum, if the frame has one. @defaultValue true */
  verify?: boolean;
}

/**
 * The payload, decompressed and verified. A view of the caller's bytes unless the frame is compressed.
 * @throws {DecodeError} `checksum_mismatch`, `bad_compression` or `decompressed_too_large`.
 */
export declare function unpack(frame: Frame, options?: UnpackOptions): Uint8Array;

/** The checksum in a frame and that of its payload. */
export interface Checksum {
  expected: number;
  actual: number;
  ok: boolean;
}

/** Compares a frame's checksum with that of `payload`, its uncompressed payload; `null` if the frame has no checksum. */
export declare function checksum(frame: FrameHead, payload: Uint8Array): Checksum | null;

/** CRC-32 (IEEE) of `bytes`, after bytes whose CRC-32 is `previous`. @defaultValue previous 0 */
export declare function crc32(bytes: Uint8Array, previous?: number): number;

/** Why a signature is refused. */
export type SignatureErrorCode =
  | "not_signed"
  | "bad_signature"
  | "untrusted_signer"
  | "other_audience"
  | "signature_not_yet_valid"
  | "signature_expired"
  | "signature_too_long";

export interface SignOptions {
  /** The seed of the private key, 32 random bytes, or a pair of Ed25519 keys from `crypto.subtle.generateKey`. */
  key: Uint8Array | CryptoKeyPair;
  /** The name of the receiver; `""` for any. @defaultValue "" */
  audience?: string;
  /** How long the signature is valid; servers accept at most an hour. @defaultValue 600000 */
  lifetimeMs?: number;
  /** @defaultValue the time of the call */
  now?: Date;
}

/**
 * Signs a frame, so that its receiver can verify who made it. An earlier signature is replaced. The platform must have Ed25519 in
 * `crypto.subtle`.
 *
 * ```js
 * import { encode, signFrame, verifyFrame } from "avp-wasm";
 *
 * const keys = await crypto.subtle.generateKey("Ed25519", false, ["sign", "verify"]);
 * const signed = await signFrame(encode({}, new Uint8Array(8)), { key: keys, audience: "reader" });
 * const publicKey = Buffer.from(await crypto.subtle.exportKey("raw", keys.publicKey)).toString("hex");
 * console.log(await verifyFrame(signed, { trusted: [publicKey], audience: "reader" }));
 * ```
 * @throws {DecodeError} As {@link decode}.
 */
export declare function signFrame(bytes: Uint8Array, options: SignOptions): Promise<Uint8Array>;

export interface VerifyOptions {
  /** The public keys of the signers whose frames are accepted, each 64 hexadecimal digits in lower case. */
  trusted: readonly string[];
  /** The audience that the signature must name. @defaultValue any */
  audience?: string | null;
  /** @defaultValue the time of the call */
  now?: Date;
  /** The longest time between signing and expiry. @defaultValue any */
  maxLifetimeMs?: number | null;
}

/** What a signature states. */
export interface Signature {
  /** The public key of the signer, 64 hexadecimal digits. */
  signedBy: string;
  /** `""` for everybody. */
  signedFor: string;
  signedAt: Date;
  signedUntil: Date;
  /** By which a receiver recognises a frame that it has accepted before. */
  nonce: string;
}

/**
 * Verifies that a trusted signer has signed exactly this frame, and that the signature is valid now.
 * @throws {SignatureError}
 * @throws {DecodeError} As {@link decode}.
 */
export declare function verifyFrame(bytes: Uint8Array, options: VerifyOptions): Promise<Signature>;

/** Metadata to write. Every field is optional. */
export interface MetadataInit {
  /** @defaultValue "" */
  sessionId?: string;
  /** @defaultValue "" */
  sourceAgentId?: string;
  /** @defaultValue "" */
  targetAgentId?: string;
  /** @defaultValue "" */
  modelId?: string;
  /** @defaultValue 0 */
  hiddenDim?: number;
  /** @defaultValue 0 */
  numLayers?: number;
  /** @defaultValue "hidden_state" */
  payloadType?: PayloadType;
  /** @defaultValue "float32" */
  dtype?: DType;
  /** @defaultValue [] */
  tensorShape?: readonly number[];
  /** @defaultValue "latent" */
  mode?: Mode;
  /** @defaultValue "" */
  avpMapId?: string;
  /** Written sorted by key. @defaultValue \{\} */
  extra?: Readonly<Record<string, string>>;
  /** 0 to 1; dialect 0.2 only. @defaultValue null */
  confidenceScore?: number | null;
}

export interface EncodeOptions {
  /** @defaultValue "0.3" */
  dialect?: Dialect;
  /** Whether to write a checksum. @defaultValue `true` in dialect 0.3, which has one */
  checksum?: boolean;
  /**
   * Pads the metadata so that the first tensor byte is at a multiple of this offset in the frame: a power of two up to
   * 4096. A receiver can then view tensors as typed arrays without copying. @defaultValue 1
   */
  alignment?: number;
  /** Whether to compress the payload with zstd. @defaultValue false */
  compress?: boolean;
}

/**
 * Encodes a frame with this payload, or with these parts joined. {@link decode} refuses more than 1 MiB of metadata, which
 * peers accept.
 * @throws {EncodeError} `not_in_dialect`, `too_large` or `bad_alignment`.
 */
export declare function encode(
  metadata: MetadataInit,
  payload: Uint8Array | readonly Uint8Array[],
  options?: EncodeOptions,
): Uint8Array;

/**
 * Encodes the same frame into `target`, and returns a view of its start. Reuse one buffer for large frames: allocating
 * memory takes longer than writing to it.
 * @throws {EncodeError} As {@link encode}, and `buffer_too_small`.
 */
export declare function encodeInto(
  target: Uint8Array,
  metadata: MetadataInit,
  payload: Uint8Array | readonly Uint8Array[],
  options?: EncodeOptions,
): Uint8Array;

/**
 * Encodes header and metadata of an uncompressed frame. Send them before the payload, which is not copied.
 * @throws {EncodeError} As {@link encode}.
 */
export declare function encodeHeader(
  metadata: MetadataInit,
  payload: Uint8Array | readonly Uint8Array[],
  options?: Omit<EncodeOptions, "compress">,
): Uint8Array;

export interface FrameDecoderOptions {
  /** Longest frame, in bytes. @defaultValue 1073741824 (1 GiB) */
  frameLimit?: number;
}

/**
 * Splits a stream of bytes into frames. Memory is allocated for bytes that have arrived, never for a length in a header.
 * After an error the start of the next frame is unknown, so every later call throws the same error.
 */
export declare class FrameDecoder {
  constructor(options?: FrameDecoderOptions);
  /** Adds bytes and returns the frames that they complete. The chunk is copied. */
  feed(chunk: Uint8Array): Frame[];
  /** Header and metadata of the frame that is arriving, once they are complete. */
  head(): FrameHead | null;
  /** Bytes that have arrived and are not yet part of a returned frame. */
  readonly buffered: number;
  /** Ends the stream. @throws {DecodeError} `truncated` if it ends within a frame. */
  finish(): void;
}

/** A Web `TransformStream` from chunks to frames: `response.body.pipeThrough(new FrameDecoderStream())`. */
export declare class FrameDecoderStream {
  constructor(options?: FrameDecoderOptions);
  readonly readable: ReadableStream<Frame>;
  readonly writable: WritableStream<Uint8Array>;
}

/** One chunk of a hybrid payload (dialect 0.2). */
export interface HybridChunk {
  /** A number if the protocol does not define the kind. */
  kind: "text" | "latent" | number;
  /** Tensor bytes or UTF-8: a view of the payload. */
  data: Uint8Array;
  /** 0 to 1; 0 if the sender wrote none. */
  confidence: number;
}

export interface Hybrid {
  chunks: HybridChunk[];
  /** The last text chunk. */
  text: string | null;
  /** The last latent chunk. */
  latent: Uint8Array | null;
}

/**
 * Decodes the payload of a hybrid frame.
 * @throws {DecodeError} `bad_protobuf` or `bad_utf8`.
 * @throws {AvpError} `out_of_memory` for 2 GiB or more in WebAssembly.
 */
export declare function decodeHybrid(payload: Uint8Array): Hybrid;

/** A chunk to write. Text can be a string. */
export interface HybridChunkInit {
  kind: "text" | "latent" | number;
  data: Uint8Array | string;
  /** @defaultValue 0 */
  confidence?: number;
}

/** Encodes the payload of a hybrid frame. @throws {AvpError} `out_of_memory` for 2 GiB or more in WebAssembly. */
export declare function encodeHybrid(chunks: readonly HybridChunkInit[]): Uint8Array;

/** The shape of a KV-cache. */
export interface KvShape {
  numLayers: number;
  numKvHeads: number;
  headDim: number;
  /** Tokens in the cache. */
  seqLen: number;
  dtype: KvDType;
}

/** Keys and values of one layer, each `[numKvHeads, seqLen, headDim]`, row-major, little-endian. */
export interface KvLayer {
  key: Uint8Array;
  value: Uint8Array;
}

/** A view of a KV-cache: every tensor is a view of the given bytes. */
export declare class KvCacheView {
  /** @throws {DecodeError} `truncated`, `unknown_enum` or `kv_shape`. */
  constructor(payload: Uint8Array);
  readonly shape: Readonly<KvShape>;
  /** Bytes of one key or value tensor. */
  readonly tensorLength: number;
  /** A layer's tensors as bytes. @throws {RangeError} If `index` is out of range. */
  layer(index: number): KvLayer;
  /**
   * A tensor as a typed array over the same memory: `Float32Array`, or `Uint16Array` with the bits of half-precision
   * numbers. `null` if the tensor is not aligned; set `alignment` when encoding the frame.
   */
  typed(layer: number, tensor: "key" | "value"): Float32Array | Uint16Array | null;
  /** A copy of a tensor, converted to float32. */
  toFloat32(layer: number, tensor: "key" | "value"): Float32Array;
  /**
   * One head's rows for tokens `start` to `end`, exclusive, `[end - start, headDim]`: a view.
   * @throws {RangeError} If layer, head or token is out of range.
   * @defaultValue all tokens
   */
  head(layer: number, tensor: "key" | "value", head: number, start?: number, end?: number): Uint8Array;
  /** A new KV-cache payload with tokens `start` to `end`, exclusive. @throws {RangeError} If a token is out of range. */
  sliceTokens(start: number, end: number): Uint8Array;
}

/**
 * Encodes a KV-cache payload.
 * @throws {EncodeError} `kv_tensor`, `kv_layers` or `kv_overflow`.
 */
export declare function encodeKvCache(shape: KvShape, layers: readonly KvLayer[]): Uint8Array;

/** The identity of the model that computed a tensor. Absent text is `""`, absent numbers are 0. */
export interface ModelIdentity {
  modelFamily: string;
  modelId: string;
  /** SHA-256 of the model's config, in hex. */
  modelHash: string;
  hiddenDim: number;
  numLayers: number;
  numKvHeads: number;
  headDim: number;
  /** SHA-256 of the tokenizer's vocabulary, in hex. */
  tokenizerHash: string;
}

/** The identity of the model with this `config.json`, passed as text. @throws {JsonError} `bad_json` or `bad_field`. */
export declare function identityFromConfig(config: string): ModelIdentity;
/** SHA-256 of a config as Python's `json.dumps` writes it. Pass the text: the hash depends on how numbers are written. @throws {JsonError} */
export declare function modelHash(config: string): string;
/** SHA-256 of a vocabulary: the JSON text of an object from token to id. @throws {JsonError} */
export declare function tokenizerHash(vocabulary: string): string;
/** The dialect of a peer's version, such as `"0.6.2"`; `null` for an unsupported version. */
export declare function dialectOf(version: string): Dialect | null;

export interface Evidence {
  /** Whether a projection map is stored under {@link Resolution.storedMapId}. @defaultValue false */
  hasStoredMap?: boolean;
  /** Number of tokens that the vocabularies share, if known. @defaultValue null */
  sharedTokens?: number | null;
}

export interface Resolution {
  mode: Mode;
  /** The rule that decided. */
  rule: Rule;
  /** The projection map to use; `""` for none. */
  avpMapId: string;
  /** The id under which a map between the two models would be stored. */
  storedMapId: string;
  /** Every field in which the identities differ. */
  differences: { field: keyof ModelIdentity; local: string | number; remote: string | number }[];
}

/** Selects the mode in which two models can exchange state. */
export declare function resolve(
  local: Partial<ModelIdentity>,
  remote: Partial<ModelIdentity>,
  evidence?: Evidence,
): Resolution;

/** A value of JSON. */
export type JsonValue = null | boolean | number | string | JsonValue[] | { [key: string]: JsonValue };

/** An agent's handshake message, sent before the first frame. */
export interface Hello {
  agentId: string;
  /** See {@link dialectOf}. */
  avpVersion: string;
  identity: ModelIdentity | null;
  capabilities: { [key: string]: JsonValue };
}
/** @throws {JsonError} `bad_json` or `bad_field`. */
export declare function parseHello(text: string): Hello;
/** The JSON text of a hello, as the peers write it. `avpVersion` defaults to that of the newest peer. */
export declare function formatHello(
  hello: Partial<Omit<Hello, "identity">> & { identity?: Partial<ModelIdentity> | null },
): string;

/** A message in JSON, for agents that cannot exchange latent state. */
export interface JsonMessage {
  avpVersion: string;
  sessionId: string;
  sourceAgentId: string;
  targetAgentId: string;
  content: string;
  extra: { [key: string]: JsonValue };
}
/** @throws {JsonError} `bad_json` or `bad_field`. */
export declare function parseJsonMessage(text: string): JsonMessage;
/** The JSON text of a message, as the peers write it. */
export declare function formatJsonMessage(message: Partial<JsonMessage>): string;

/** A receiver's request to continue in JSON (dialect 0.2). */
export interface FallbackRequest {
  sessionId: string;
  reason: string;
  perplexityScore: number;
}
/** @throws {JsonError} `bad_json` or `bad_field`. */
export declare function parseFallbackRequest(text: string): FallbackRequest;
/** The JSON text of a request, as the peers write it. */
export declare function formatFallbackRequest(request: Partial<FallbackRequest>): string;

/** An agreement between agents. Times are in milliseconds. */
export interface Session {
  id: string;
  agents: string[];
  mode: Mode;
  avpMapId: string;
  /** Creation time, on the manager's clock. */
  created: number;
  ttl: number;
}

export interface SessionInit {
  agents: readonly string[];
  /** @defaultValue "latent" */
  mode?: Mode;
  /** @defaultValue "" */
  avpMapId?: string;
  /** Milliseconds. @defaultValue the manager's */
  ttl?: number;
}

export interface SessionManagerOptions {
  /** Lifetime of a session, in milliseconds. @defaultValue 3600000 (one hour) */
  ttl?: number;
  /** Returns the time in milliseconds since a fixed moment. @defaultValue performance.now */
  now?: () => number;
}

/** Sessions by id. */
export declare class SessionManager {
  constructor(options?: SessionManagerOptions);
  /** Creates a session with a random id of 32 hexadecimal digits. */
  create(init: SessionInit): Session;
  /** The session with this id; `null` if there is none or it has expired. */
  get(id: string): Session | null;
  /** The active sessions of an agent. */
  find(agent: string): Session[];
  /** Removes a session, and returns whether it existed. */
  invalidate(id: string): boolean;
  /** Removes expired sessions, and returns their number. */
  cleanupExpired(): number;
  /** Number of active sessions. */
  readonly activeCount: number;
}

/** A range in a text: offsets for `String.prototype.slice`. */
export interface Span {
  start: number;
  end: number;
}

export interface PacketField {
  /** The key as written; `null` for a bare word. */
  key: string | null;
  /** The AACP field name of the key; `null` for an unknown key. */
  name: string | null;
  /** The value, with percent-encoding decoded if the packet uses it. */
  value: string;
  /** The value as written. */
  raw: string;
  span: Span;
  valueSpan: Span;
}

export interface Packet {
  task: { value: string; span: Span };
  domain: { value: string; span: Span };
  /** In order, without empty fields. */
  fields: PacketField[];
  percentEncoded: boolean;
}

/** Parses an AACP packet without validating its fields; see {@link validatePacket}. @throws {PacketError} */
export declare function parsePacket(text: string): Packet;

/** Words beside AACP's own. */
export interface Vocabulary {
  /** @defaultValue [] */
  tasks?: readonly string[];
  /** @defaultValue [] */
  domains?: readonly string[];
  /** @defaultValue [] */
  fields?: readonly string[];
}

export interface ValidateOptions {
  /** `"strict"` for packets to send, `"lenient"` for received packets. @defaultValue "lenient" */
  profile?: "lenient" | "strict";
  /** The current version. @defaultValue "1.2" */
  version?: string;
  /** A release of the Python package `aacp` whose report is included: `"1.1.0"` or `"1.4.0"`. @defaultValue null */
  peer?: string | null;
  /** @defaultValue 256 */
  maxFields?: number;
  vocabulary?: Vocabulary;
}

export interface Finding {
  /** A stable name, such as `"unknown_task"`. */
  code: string;
  severity: "error" | "warning";
  /** `TASK`, `DOM`, a key, or `""` for the packet as a whole. */
  field: string;
  /** Range in the text; for a missing field, an empty range at the end of the packet. */
  span: Span;
  message: string;
  /** A fix, if one is known. */
  fix: {
    /** Replace the span by `text`; append `|` and a field that starts with `text`; remove the span; percent-encode all. */
    action: "replace" | "append" | "remove" | "encode";
    text: string | null;
    message: string;
  } | null;
}

export interface Validation {
  valid: boolean;
  findings: Finding[];
  /** The report of the Python release named in the options, verbatim. */
  peer: { valid: boolean; errors: string[]; warnings: string[] } | null;
}

/** Validates a text as a packet: problems, their positions and likely fixes. */
export declare function validatePacket(text: string, options?: ValidateOptions): Validation;

export interface Explanation {
  /** The packet in English. */
  text: string;
  /** One sentence for the task and one for each field. */
  sentences: { field: string; text: string }[];
  /** Whether the sentences cover the whole packet. */
  complete: boolean;
}

/** Explains a packet in English. @throws {PacketError} If the text is not a packet. */
export declare function explainPacket(text: string): Explanation;

export interface PacketInit {
  task: string;
  domain: string;
  returnAgent: string;
  /** 1 critical, 2 medium, 3 low. @defaultValue none */
  priority?: 1 | 2 | 3 | string | null;
  /** @defaultValue "1.2" */
  version?: string;
  /** In output order. A list is joined with commas. @defaultValue \{\} */
  fields?: Readonly<Record<string, string | number | readonly (string | number)[]>>;
  vocabulary?: Vocabulary;
}

/** Builds a packet that passes strict validation. Values are percent-encoded if necessary. @throws {PacketError} */
export declare function buildPacket(init: PacketInit): string;

/** The words that AACP defines, with a description of each field. */
export declare function standardVocabulary(): {
  tasks: string[];
  domains: string[];
  fields: { key: string; about: string }[];
  versions: string[];
};

/** An argument of a workflow's call. */
export type WorkflowArgument = null | boolean | number | string | readonly (string | number | boolean)[];

export interface WorkflowInfo {
  name: string;
  /** The equivalent Python class. */
  encoder: string;
  about: string;
  calls: {
    name: string;
    about: string;
    required: string[];
    /** Optional arguments and their defaults. */
    optional: Record<string, null | boolean | number | string | string[]>;
  }[];
}

/**
 * Packets for known workflows, from a table. A whole number is written as an integer (`4500`). Where a peer writes a float
 * (`4500.0`), pass text.
 */
export declare class Workflows {
  /** The published workflows, or those of a table in the same form, as JSON text. @throws {PacketError} `bad_table` and others. */
  constructor(table?: string);
  list(): WorkflowInfo[];
  /** The packets of a call. @throws {PacketError} `unknown_workflow`, `unknown_call`, `missing_argument` and others. */
  encode(
    workflow: string,
    call: string,
    args: Readonly<Record<string, WorkflowArgument>>,
    options?: { version?: string; vocabulary?: Vocabulary },
  ): string[];
}

export interface PacketRule {
  id: string;
  name: string;
  description: string;
  task: string;
  domain: string;
  packet: string;
  tags: string[];
  version: string;
  source: string;
  validated: boolean;
}

export interface Instruction {
  english: string;
  domain: string;
  returnAgent: string;
  /** @defaultValue the priority in the rule */
  priority?: 1 | 2 | 3;
}

/** Rules in the community's format: packets with words to find them by. */
export declare class Rules {
  /** @throws {PacketError} `bad_rules` where the text is not JSON in that format. */
  constructor(rules: string);
  /** Number of rules. */
  readonly count: number;
  /** Rules that were not loaded: index in the text and reason. */
  readonly refused: readonly { index: number; code: string }[];
  /** The rules that share most words with the query, best first. */
  find(query: string, options?: { domain?: string | null; task?: string | null; limit?: number }): {
    rule: PacketRule;
    score: number;
  }[];
  /** The packet of the rule that covers an instruction. @throws {PacketError} `no_rule` if there is none. */
  encode(instruction: Instruction, options?: { version?: string; leastCoverage?: number }): {
    packet: string;
    /** The rule's id. */
    rule: string;
    /** Share of the instruction's words that the rule has, from 0 to 1. */
    coverage: number;
  };
}

/** Normalised text, id and keywords of an instruction, as in the Python package's log. */
export declare function describeInstruction(english: string): { normalised: string; id: string; keywords: string[] };

/** Invalid data. The message never contains payload. */
export declare class AvpError extends Error {
  constructor(message: string, code: string, offset?: number | null);
  /** A stable name, the same in every binding. */
  readonly code: string;
  /** Offset in bytes of the input, or index into a text; `null` if the error has no position. */
  readonly offset: number | null;
}
/** Bytes that cannot be decoded. */
export declare class DecodeError extends AvpError {}
/** A value that cannot be encoded. */
export declare class EncodeError extends AvpError {}
/** Invalid JSON, or JSON with a wrong field. */
export declare class JsonError extends AvpError {}
/** A frame whose signature is refused, and why. */
export declare class SignatureError extends AvpError {
  readonly code: SignatureErrorCode;
}
/** An invalid AACP packet, workflow table or rule set. */
export declare class PacketError extends AvpError {}
