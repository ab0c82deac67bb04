// Values that cross the border as one row: numbers, and texts joined to one. `js/operations/src/row.rs` is the other side.

/** Reads a row from Rust. */
export class RowReader {
  readonly #numbers: Float64Array;
  readonly #text: string;
  #at = 0;
  #start = 0;

  constructor(numbers: Float64Array, text: string) {
    this.#numbers = numbers;
    this.#text = text;
  }

  number(): number {
    return this.#numbers[this.#at++]!;
  }

  text(): string {
    const start = this.#start;
    this.#start = start + this.number();
    return this.#text.slice(start, this.#start);
  }

  optionalNumber(): number | null {
    return this.number() === 0 ? null : this.number();
  }

  optionalText(): string | null {
    return this.number() === 0 ? null : this.text();
  }

  numbers(): number[] {
    const list: number[] = [];
    for (let count = this.number(); count > 0; count -= 1) list.push(this.number());
    return list;
  }

  texts(): string[] {
    const list: string[] = [];
    for (let count = this.number(); count > 0; count -= 1) list.push(this.text());
    return list;
  }
}

/** A new typed array takes longer than the call that it is passed to. */
const SCRATCH = new Float64Array(64);

/** Writes a row for Rust. */
export class RowWriter {
  readonly #numbers: number[] = [];
  #text = "";

  /** The numbers, until the next call. */
  get numbers(): Float64Array {
    const numbers = this.#numbers;
    if (numbers.length > SCRATCH.length) return Float64Array.from(numbers);
    SCRATCH.set(numbers);
    return SCRATCH.subarray(0, numbers.length);
  }

  /** The joined texts. A NUL keeps the halves of a surrogate pair apart, which are characters of their own. */
  get text(): string {
    return this.#text;
  }

  addNumber(number: number): void {
    this.#numbers.push(number);
  }

  addText(text: string): void {
    this.#numbers.push(text.length);
    this.#text += text;
    this.#text += "\0";
  }

  addOptionalNumber(number: number | null): void {
    if (number === null) this.addNumber(0);
    else this.#numbers.push(1, number);
  }

  addOptionalText(text: string | null): void {
    this.addNumber(text === null ? 0 : 1);
    if (text !== null) this.addText(text);
  }

  addNumbers(numbers: readonly number[]): void {
    this.addNumber(numbers.length);
    for (const number of numbers) this.addNumber(number);
  }

  addTexts(texts: readonly string[]): void {
    this.addNumber(texts.length);
    for (const text of texts) this.addText(text);
  }
}
