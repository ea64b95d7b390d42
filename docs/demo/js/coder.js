/* The entropy coder of docs/exact.md: the two tables, rANS, and sources of chance.  A state of 64 bits is two numbers. */
"use strict";

ARDM.define(function (ardm) {
  const { damaged, littleEndian, join } = ardm;
  const TOTAL = 2 ** 24;
  const WORD = 2 ** 32;

  /* ⌊2^120 exp(−i / n)⌋, i = 0 … count, in integers of any length. */
  function powers(n, count) {
    const one = 1n << 120n;
    let ratio = 0n,
      term = one;
    for (let k = 1n; term; k++) ((ratio += k % 2n ? term : -term), (term /= BigInt(n) * k));
    const found = [one];
    while (found.length <= count) found.push((found[found.length - 1] * ratio) >> 120n);
    return found;
  }

  const EXP = Float64Array.from(powers(32, 767), (e) => Number(e >> 90n));
  const SIGMOID = (() => {
    const one = 1n << 120n,
      falling = powers(64, 1536),
      table = new Float64Array(3073);
    falling.forEach((e, i) => {
      table[1536 + i] = Number((one << 30n) / (one + e));
      if (i) table[1536 - i] = Number((e << 30n) / (one + e));
    });
    return table;
  })();

  /* A stream, read from front to end.  slot: what the next symbol is found by; pop: the symbol was [start, start + width). */
  class Decoder {
    constructor(stream) {
      const split = stream.length < 5 ? stream.length : 5 + ((stream.length - 5) % 4);
      if (!stream.length || !stream[0]) throw damaged("it holds no stream of a model");
      const state = new Uint8Array(8);
      state.set(stream.subarray(0, split), 8 - split);
      const view = new DataView(state.buffer);
      Object.assign(this, { high: view.getUint32(0), low: view.getUint32(4), stream, at: split });
    }

    slot() {
      return this.low & 0xffffff;
    }

    pop(start, width) {
      const upper = Math.floor(this.high / 65536),
        middle = (this.high % 65536) * 256 + (this.low >>> 24);
      const carried = width * upper;
      const lower = (carried % 256) * TOTAL + width * middle + (this.low & 0xffffff) - start;
      this.high = Math.floor(carried / 256) + Math.floor(lower / WORD);
      this.low = (lower % WORD) >>> 0;
      if (this.high || this.at === this.stream.length) return;
      const at = this.at;
      this.high = this.low;
      this.low =
        ((this.stream[at] << 24) | (this.stream[at + 1] << 16) | (this.stream[at + 2] << 8) | this.stream[at + 3]) >>>
        0;
      this.at += 4;
    }

    /* The check of some bits that is left at the end. */
    close(bits) {
      const mark = bits === 32 ? this.high : Math.floor((this.high * WORD + this.low) / 2 ** bits);
      if (this.at !== this.stream.length || mark !== 1) throw damaged("its stream does not end where its picture does");
      return bits === 32 ? this.low : this.low % 2 ** bits;
    }
  }

  /* Intervals, first in, first out. */
  class Encoder {
    constructor(room = 1024) {
      this.start = new Int32Array(room);
      this.width = new Int32Array(room);
      this.count = 0;
      this.bits = 0;
    }

    push(start, width) {
      if (this.count === this.start.length) {
        for (const name of ["start", "width"]) {
          const larger = new Int32Array(2 * this.count);
          larger.set(this[name]);
          this[name] = larger;
        }
      }
      this.start[this.count] = start;
      this.width[this.count++] = width;
      this.bits += 24 - Math.log2(width);
    }

    /* The stream of everything pushed, and of a check of some bits. */
    finish(check, bits) {
      let high = bits === 32 ? 1 : 0,
        low = bits === 32 ? check : 2 ** bits + check;
      const words = [];
      for (let k = this.count - 1; k >= 0; k--) {
        const width = this.width[k];
        if (width === TOTAL) continue;
        if (Math.floor(high / 256) >= width) (words.push(low), (low = high), (high = 0));
        const first = Math.floor(high / width),
          second = (high % width) * 65536 + (low >>> 16);
        const third = (second % width) * 65536 + (low & 65535);
        const quotient = first * WORD + Math.floor(second / width) * 65536 + Math.floor(third / width);
        high = Math.floor(quotient / 256);
        low = (quotient % 256) * TOTAL + this.start[k] + (third % width);
      }
      const state = [...littleEndian(low, 4), ...littleEndian(high, 4)].reverse();
      const tail = words.reverse().map((word) => littleEndian(word, 4).reverse());
      return join([state.slice(state.findIndex((byte) => byte)), ...tail]);
    }
  }

  /* Random bits in place of a stream: decoding them draws a sample.  mulberry32, so that a seed says what is drawn. */
  class Chance {
    constructor(seed) {
      this.state = seed | 0;
    }

    slot() {
      this.state = (this.state + 0x6d2b79f5) | 0;
      let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) >>> 8;
    }

    pop() {}
  }

  Object.assign(ardm, { EXP, SIGMOID, TOTAL, Decoder, Encoder, Chance });
});
