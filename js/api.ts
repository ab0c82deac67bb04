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
 * Nothing here needs to be freed. Bytes are `Uint8Array`s of ordinary memory: a shared, resizable or detached buffer is a
 * `TypeError`, as is every argument of a wrong type. What is wrong with the data itself is an {@link AvpError}.
 * @packageDocumentation
 */

/** Which generation of peers wrote a frame: `"0.2"` for avp 0.2.x, `"0.3"` for avp 0.3.0 to 0.6.x. */
export type Dialect = "0.2" | "0.3";
/** What the tensor bytes of a frame are. Only avp 0.5 writes `"auto"`. */
export type PayloadType = "hidden_state" | "kv_cache" | "embedding" | "auto";
/** The number format of a tensor's elements. */
export type DType = "float32" | "float16" | "bfloat16" | "int8";
/** The number format of a KV-cache. */
export type KvDType = "float32" | "float16" | "bfloat16";
/** How two agents talk. Only dialect 0.2 has `"hybrid"`. */
export type Mode = "latent" | "hybrid" | "json";
/** The rule by which two agents came to their mode. */
export type Rule =
  | "hash_match"
  | "structural_match"
  | "shared_tokenizer"
  | "avp_map_file"
  | "vocab_overlap"
  | "json_fallback";

/** Metadata as a frame holds it. Absent text is `""`, absent numbers are 0. */
export interface Metadata {
  sessionId: string;
  sourceAgentId: string;
  targetAgentId: string;
  modelId: string;
  /** Width of the model's hidden states. */
  hiddenDim: number;
  numLayers: number;
  payloadType: PayloadType;
  /** For a KV-cache its own header is authoritative: avp 0.2 says `float32` here whatever the cache holds. */
  dtype: DType;
  /** Outermost axis first. */
  tensorShape: number[];
  mode: Mode;
  /** Id of the projection map that the tensors went through; `""` for none. */
  avpMapId: string;
  extra: Record<string, string>;
  /** 0 to 1, where the dialect has it; as it was sent, be it `NaN`. */
  confidenceScore: number | null;
  /** CRC-32 of the uncompressed payload, where the sender gave one. */
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
  /** `null` where both dialects read the frame the same. */
  dialect: Dialect | null;
  version: 1;
  flags: number;
  /** The names of the set flags, lowest bit first. */
  flagNames: string[];
  /** Metadata and payload together, as the header says. */
  payloadLength: number;
  metadataLength: number;
  /** Where the payload starts in the frame. */
  payloadOffset: number;
  /** The whole frame. */
  frameLength: number;
  /** Whether the payload is compressed with zstd. */
  compressed: boolean;
  metadata: Metadata;
}

/** A whole frame. */
export interface Frame extends FrameHead {
  /** The payload as it lies in the frame: a view of the caller's bytes, neither copied nor verified. See {@link unpack}. */
  payload: Uint8Array;
}

/**
 * Reads one whole frame, in whichever dialect it is. The payload is not touched, so it takes the same time for any.
 * @throws {DecodeError} `truncated`, `trailing_bytes`, `bad_magic` and the core's other codes; `metadata_too_large` where
 * there is more than 1 MiB of metadata.
 */
export declare function decode(bytes: Uint8Array): Frame;

/**
 * Reads header and metadata from the start of `bytes`; whatever follows is not looked at.
 * @throws {DecodeError} `truncated` where more bytes may mend it; every other code is final. `metadata_too_large` where
 * there is more than 1 MiB of metadata.
 */
export declare function decodeHeader(bytes: Uint8Array): FrameHead;

export interface UnpackOptions {
  /** The most bytes that the payload may unpack to. @defaultValue 1073741824 (1 GiB) */
  limit?: number;
  /** Whether to compare the checksum, where there is one. @defaultValue true */
  verify?: boolean;
}

/**
 * The payload as the sender meant it: uncompressed and verified. A view of the caller's bytes unless the frame is
 * compressed.
 * @throws {DecodeError} `checksum_mismatch`, `bad_compression` or `decompressed_too_large`.
 */
export declare function unpack(frame: Frame, options?: UnpackOptions): Uint8Array;

/** A frame's checksum beside the one that its payload has. */
export interface Checksum {
  expected: number;
  actual: number;
  ok: boolean;
}

/** Compares a frame's checksum with that of `payload`, its uncompressed payload; `null` where the frame has none. */
export declare function checksum(frame: FrameHead, payload: Uint8Array): Checksum | null;

/** CRC-32 (IEEE) of `bytes`, after bytes whose CRC-32 is `previous`. @defaultValue previous 0 */
export declare function crc32(bytes: Uint8Array, previous?: number): number;

/** Metadata to write. Everything may be left out. */
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
  /** 0 to 1; only dialect 0.2 has it. @defaultValue null */
  confidenceScore?: number | null;
}

export interface EncodeOptions {
  /** @defaultValue "0.3" */
  dialect?: Dialect;
  /** Whether to write a checksum. @defaultValue whether the dialect has one */
  checksum?: boolean;
  /**
   * Pads the metadata so that the first tensor byte lies at a multiple of this many bytes in the frame, a power of two up
   * to 4096. A receiver can then view tensors as typed arrays where they lie. @defaultValue 1
   */
  alignment?: number;
  /** Whether to compress the payload with zstd. @defaultValue false */
  compress?: boolean;
}

/**
 * A frame with this payload, or with these parts joined. Metadata of more than 1 MiB, which peers read, {@link decode} refuses.
 * @throws {EncodeError} `not_in_dialect`, `too_large` or `bad_alignment`.
 */
export declare function encode(
  metadata: MetadataInit,
  payload: Uint8Array | readonly Uint8Array[],
  options?: EncodeOptions,
): Uint8Array;

/**
 * The same frame, written into memory of yours: a view of the start of `target`. Who sends large frames one after another keeps
 * one buffer for all of them, since new memory costs more than what is written to it.
 * @throws {EncodeError} As {@link encode}, and `buffer_too_small`.
 */
export declare function encodeInto(
  target: Uint8Array,
  metadata: MetadataInit,
  payload: Uint8Array | readonly Uint8Array[],
  options?: EncodeOptions,
): Uint8Array;

/**
 * Only header and metadata of an uncompressed frame. Send them in front of the payload: nothing is copied.
 * @throws {EncodeError} As {@link encode}.
 */
export declare function encodeHeader(
  metadata: MetadataInit,
  payload: Uint8Array | readonly Uint8Array[],
  options?: Omit<EncodeOptions, "compress">,
): Uint8Array;

export interface FrameDecoderOptions {
  /** The longest frame to take, in bytes. @defaultValue 1073741824 (1 GiB) */
  frameLimit?: number;
}

/**
 * Cuts a stream of bytes into frames. Memory follows what has arrived, never what a header announces. After an error
 * there is no telling where the next frame starts, so the same error comes again.
 */
export declare class FrameDecoder {
  constructor(options?: FrameDecoderOptions);
  /** Takes bytes that have arrived, and gives the frames that they complete. The bytes may be used again afterwards. */
  feed(chunk: Uint8Array): Frame[];
  /** Header and metadata of the frame that is arriving, as soon as they are there. */
  head(): FrameHead | null;
  /** Bytes that have arrived and belong to no frame given out yet. */
  readonly buffered: number;
  /** Ends the stream. @throws {DecodeError} `truncated` where it ends within a frame. */
  finish(): void;
}

/** A Web `TransformStream` of chunks to frames: `response.body.pipeThrough(new FrameDecoderStream())`. */
export declare class FrameDecoderStream {
  constructor(options?: FrameDecoderOptions);
  readonly readable: ReadableStream<Frame>;
  readonly writable: WritableStream<Uint8Array>;
}

/** One chunk of a hybrid payload (dialect 0.2). */
export interface HybridChunk {
  /** A number for a kind that the protocol does not define. */
  kind: "text" | "latent" | number;
  /** Tensor bytes or UTF-8: a view of the payload. */
  data: Uint8Array;
  /** 0 to 1; 0 where the sender gave none. */
  confidence: number;
}

export interface Hybrid {
  chunks: HybridChunk[];
  /** The last text chunk. */
  text: string | null;
  /** The last latent chunk. */
  latent: Uint8Array | null;
}

/** Reads the payload of a hybrid frame. @throws {DecodeError} `bad_protobuf` or `bad_utf8`. */
export declare function decodeHybrid(payload: Uint8Array): Hybrid;

/** A chunk to write; text may be given as a string. */
export interface HybridChunkInit {
  kind: "text" | "latent" | number;
  data: Uint8Array | string;
  /** @defaultValue 0 */
  confidence?: number;
}

/** The payload of a hybrid frame. */
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

/** A KV-cache where it lies: every tensor is a view of the bytes given. */
export declare class KvCacheView {
  /** @throws {DecodeError} `truncated`, `unknown_enum` or `kv_shape`. */
  constructor(payload: Uint8Array);
  readonly shape: Readonly<KvShape>;
  /** Bytes of one key or value tensor. */
  readonly tensorLength: number;
  /** A layer's tensors as bytes. @throws {RangeError} If there is no such layer. */
  layer(index: number): KvLayer;
  /**
   * A tensor as numbers over the same memory: `Float32Array`, or `Uint16Array` of the bits of half-precision numbers;
   * `null` where the tensor is not aligned for it. Frames written with `alignment` are.
   */
  typed(layer: number, tensor: "key" | "value"): Float32Array | Uint16Array | null;
  /** A tensor as numbers of its own, widened to float32: a copy that always works. */
  toFloat32(layer: number, tensor: "key" | "value"): Float32Array;
  /**
   * One head's rows for tokens `start` to `end`, exclusive, `[end - start, headDim]`: a view.
   * @throws {RangeError} If there is no such layer, head or token.
   * @defaultValue all tokens
   */
  head(layer: number, tensor: "key" | "value", head: number, start?: number, end?: number): Uint8Array;
  /** A KV-cache payload of its own with tokens `start` to `end`, exclusive. @throws {RangeError} Outside of the cache. */
  sliceTokens(start: number, end: number): Uint8Array;
}

/**
 * A KV-cache payload.
 * @throws {EncodeError} `kv_tensor`, `kv_layers` or `kv_overflow`.
 */
export declare function encodeKvCache(shape: KvShape, layers: readonly KvLayer[]): Uint8Array;

/** Who computed a tensor. Absent text is `""`, absent numbers are 0. */
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

/** The identity of the model with this `config.json`, given as text. @throws {JsonError} `bad_json` or `bad_field`. */
export declare function identityFromConfig(config: string): ModelIdentity;
/** SHA-256 of a config as Python's `json.dumps` writes it. Text, since numbers count as written. @throws {JsonError} */
export declare function modelHash(config: string): string;
/** SHA-256 of a vocabulary, the text of an object from token to id. @throws {JsonError} */
export declare function tokenizerHash(vocabulary: string): string;
/** The dialect of a peer that calls itself `version`, such as `"0.6.2"`; `null` for one that no dialect serves. */
export declare function dialectOf(version: string): Dialect | null;

export interface Evidence {
  /** Whether a projection map is stored under {@link Resolution.storedMapId}. @defaultValue false */
  hasStoredMap?: boolean;
  /** How many tokens the vocabularies share, where somebody counted. @defaultValue null */
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

/** Decides how two models can exchange state. */
export declare function resolve(
  local: Partial<ModelIdentity>,
  remote: Partial<ModelIdentity>,
  evidence?: Evidence,
): Resolution;

/** A value of JSON. */
export type JsonValue = null | boolean | number | string | JsonValue[] | { [key: string]: JsonValue };

/** What an agent says of itself before the first frame. */
export interface Hello {
  agentId: string;
  /** See {@link dialectOf}. */
  avpVersion: string;
  identity: ModelIdentity | null;
  capabilities: { [key: string]: JsonValue };
}
/** @throws {JsonError} `bad_json` or `bad_field`. */
export declare function parseHello(text: string): Hello;
/** The text that the peers write. `avpVersion` is the newest peer's unless given. */
export declare function formatHello(
  hello: Partial<Omit<Hello, "identity">> & { identity?: Partial<ModelIdentity> | null },
): string;

/** What an agent says in JSON where latent state does not serve. */
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
/** The text that the peers write. */
export declare function formatJsonMessage(message: Partial<JsonMessage>): string;

/** A receiver's request to go on in JSON (dialect 0.2). */
export interface FallbackRequest {
  sessionId: string;
  reason: string;
  perplexityScore: number;
}
/** @throws {JsonError} `bad_json` or `bad_field`. */
export declare function parseFallbackRequest(text: string): FallbackRequest;
/** The text that the peers write. */
export declare function formatFallbackRequest(request: Partial<FallbackRequest>): string;

/** An agreement between agents. Times are in milliseconds. */
export interface Session {
  id: string;
  agents: string[];
  mode: Mode;
  avpMapId: string;
  /** When it began, on the manager's clock. */
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
  /** How long a session lives, in milliseconds. @defaultValue 3600000 (one hour) */
  ttl?: number;
  /** The time in milliseconds since any moment. @defaultValue performance.now */
  now?: () => number;
}

/** Sessions by id. */
export declare class SessionManager {
  constructor(options?: SessionManagerOptions);
  /** Begins a session with an id of its own: 32 hexadecimal digits that nobody can guess. */
  create(init: SessionInit): Session;
  /** The session with this id, unless it has expired. */
  get(id: string): Session | null;
  /** The active sessions that an agent takes part in. */
  find(agent: string): Session[];
  /** Removes a session; whether there was one. */
  invalidate(id: string): boolean;
  /** Removes every expired session, and returns how many there were. */
  cleanupExpired(): number;
  /** How many sessions are active. */
  readonly activeCount: number;
}

/** A place in a text: offsets as `String.prototype.slice` takes them. */
export interface Span {
  start: number;
  end: number;
}

export interface PacketField {
  /** The key as written; `null` for a bare word. */
  key: string | null;
  /** The key that AACP defines, in its own spelling; `null` for any other. */
  name: string | null;
  /** The value as it was meant: without percent-encoding, where the packet uses it. */
  value: string;
  /** The value as written. */
  raw: string;
  span: Span;
  valueSpan: Span;
}

export interface Packet {
  task: { value: string; span: Span };
  domain: { value: string; span: Span };
  /** In their order, empty ones left out. */
  fields: PacketField[];
  percentEncoded: boolean;
}

/** Reads an AACP packet; whether its parts are the right ones is for {@link validatePacket} to say. @throws {PacketError} */
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
  /** `"strict"` for what we send, `"lenient"` for what others send. @defaultValue "lenient" */
  profile?: "lenient" | "strict";
  /** The current version. @defaultValue "1.2" */
  version?: string;
  /** A release of the Python package `aacp` to ask too: `"1.1.0"` or `"1.4.0"`. @defaultValue null */
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
  /** Where; what is missing has an empty span at the end of the packet. */
  span: Span;
  message: string;
  /** What would mend it, if anything is known. */
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
  /** What the release asked for in the options says, word for word. */
  peer: { valid: boolean; errors: string[]; warnings: string[] } | null;
}

/** Says what is wrong with a packet, where, and what was likely meant. Any text may be given. */
export declare function validatePacket(text: string, options?: ValidateOptions): Validation;

export interface Explanation {
  /** The packet in English. */
  text: string;
  /** One sentence for the task and one for each field. */
  sentences: { field: string; text: string }[];
  /** Whether all of the packet is in the sentences. */
  complete: boolean;
}

/** A packet in English. @throws {PacketError} Where the text is no packet. */
export declare function explainPacket(text: string): Explanation;

export interface PacketInit {
  task: string;
  domain: string;
  returnAgent: string;
  /** 1 critical, 2 medium, 3 low. @defaultValue none */
  priority?: 1 | 2 | 3 | string | null;
  /** @defaultValue "1.2" */
  version?: string;
  /** In the order to write them; a list is written with commas. @defaultValue \{\} */
  fields?: Readonly<Record<string, string | number | readonly (string | number)[]>>;
  vocabulary?: Vocabulary;
}

/** A packet that the strict profile accepts; values that cannot be written plainly are percent-encoded. @throws {PacketError} */
export declare function buildPacket(init: PacketInit): string;

/** AACP's own words, and what each field holds. */
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
  /** The Python class that it stands for. */
  encoder: string;
  about: string;
  calls: {
    name: string;
    about: string;
    required: string[];
    /** Arguments that may be left out, and what they are then. */
    optional: Record<string, null | boolean | number | string | string[]>;
  }[];
}

/**
 * Packets for known workflows, from a table. A whole number is written as an integer (`4500`); where a peer writes a float
 * (`4500.0`), give it as text.
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
  /** What the rule says, unless given. */
  priority?: 1 | 2 | 3;
}

/** Rules in the community's format: packets with words to find them by. */
export declare class Rules {
  /** @throws {PacketError} `bad_rules` where the text is not JSON in that format. */
  constructor(rules: string);
  /** How many there are. */
  readonly count: number;
  /** Rules left out when loading, by their place in the text, and why. */
  readonly refused: readonly { index: number; code: string }[];
  /** The rules with most words of the query, best first. */
  find(query: string, options?: { domain?: string | null; task?: string | null; limit?: number }): {
    rule: PacketRule;
    score: number;
  }[];
  /** A packet for an instruction that a rule covers. @throws {PacketError} `no_rule` where none does. */
  encode(instruction: Instruction, options?: { version?: string; leastCoverage?: number }): {
    packet: string;
    /** The rule's id. */
    rule: string;
    /** Which part of the instruction's words the rule has, from 0 to 1. */
    coverage: number;
  };
}

/** How the Python package's log sees an instruction. */
export declare function describeInstruction(english: string): { normalised: string; id: string; keywords: string[] };

/** What is wrong with data. It never holds any of the payload. */
export declare class AvpError extends Error {
  constructor(message: string, code: string, offset?: number | null);
  /** A stable name, the same in every binding. */
  readonly code: string;
  /** Where: bytes from the start of what was decoded, or an index into a text; `null` where there is no such place. */
  readonly offset: number | null;
}
/** Bytes that are not what they should be. */
export declare class DecodeError extends AvpError {}
/** A value that cannot be written. */
export declare class EncodeError extends AvpError {}
/** Text that is not the JSON it should be. */
export declare class JsonError extends AvpError {}
/** Text or parts that make no AACP packet. */
export declare class PacketError extends AvpError {}
