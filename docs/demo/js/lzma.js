/* LZMA2 as docs/format.md uses it: a raw stream with its end marker, dictionary of 2^22 bytes. */
"use strict";

ARDM.define(function (ardm) {
  const { damaged } = ardm;
  const broken = () => damaged("it holds no LZMA2 stream");
  const probabilities = (count) => new Uint16Array(count).fill(1024);

  /* The binary range decoder: bits with adaptive probabilities. */
  class RangeDecoder {
    start(data, at, end) {
      Object.assign(this, { data, at: at + 5, end, range: 0xffffffff });
      if (at + 5 > end || data[at] !== 0) throw broken();
      this.code = data.subarray(at + 1, at + 5).reduce((code, byte) => code * 256 + byte, 0);
    }

    normalise() {
      if (this.range >= 0x1000000) return;
      if (this.at === this.end) throw broken();
      this.range *= 256;
      this.code = this.code * 256 + this.data[this.at++];
    }

    bit(table, index) {
      this.normalise();
      const p = table[index],
        bound = Math.floor(this.range / 2048) * p;
      if (this.code < bound) {
        this.range = bound;
        table[index] = p + ((2048 - p) >> 5);
        return 0;
      }
      this.range -= bound;
      this.code -= bound;
      table[index] = p - (p >> 5);
      return 1;
    }

    direct(count) {
      let value = 0;
      for (; count > 0; count--) {
        this.normalise();
        this.range = Math.floor(this.range / 2);
        const one = this.code >= this.range ? 1 : 0;
        if (one) this.code -= this.range;
        value = value * 2 + one;
      }
      return value;
    }

    /* A number of some bits from a tree of probabilities, the highest bit first. */
    tree(table, offset, bits) {
      let node = 1;
      for (let k = 0; k < bits; k++) node = 2 * node + this.bit(table, offset + node);
      return node - (1 << bits);
    }

    /* The same with the lowest bit first. */
    reverse(table, offset, bits) {
      let node = 1,
        value = 0;
      for (let k = 0; k < bits; k++) {
        const bit = this.bit(table, offset + node);
        node = 2 * node + bit;
        value |= bit << k;
      }
      return value;
    }
  }

  const lengths = () => ({
    choice: probabilities(2),
    low: probabilities(16 << 3),
    middle: probabilities(16 << 3),
    high: probabilities(256),
  });

  class Lzma2 {
    constructor(data, most) {
      Object.assign(this, { data, most, out: new Uint8Array(most), size: 0, begins: 0 });
      this.coder = new RangeDecoder();
    }

    properties(byte) {
      if (byte >= 225) throw broken();
      this.lc = byte % 9;
      this.lp = Math.floor(byte / 9) % 5;
      this.pb = Math.floor(byte / 45);
      if (this.lc + this.lp > 4) throw broken();
    }

    reset() {
      this.state = 0;
      this.back = [0, 0, 0, 0];
      this.literal = probabilities(0x300 << (this.lc + this.lp));
      this.match = probabilities(12 << 4);
      this.again = [probabilities(12), probabilities(12), probabilities(12)];
      this.last = probabilities(12);
      this.first = probabilities(12 << 4);
      this.slots = probabilities(4 << 6);
      this.special = probabilities(128);
      this.aligned = probabilities(16);
      this.length = lengths();
      this.againLength = lengths();
    }

    run() {
      const { data } = this;
      for (let at = 0; ;) {
        const control = data[at++];
        if (control === 0) {
          if (at !== data.length || this.size !== this.most) throw broken();
          return this.out;
        }
        if (at + 2 > data.length || (control > 2 && control < 128)) throw broken();
        const size = (control < 128 ? 0 : (control & 31) << 16) + (data[at] << 8) + data[at + 1] + 1;
        if (this.size + size > this.most) throw broken();
        at += 2;
        at = control < 128 ? this.plain(at, size, control) : this.packed(at, size, control);
      }
    }

    plain(at, size, control) {
      if (control === 1) this.begins = this.size;
      if (at + size > this.data.length) throw broken();
      this.out.set(this.data.subarray(at, at + size), this.size);
      this.size += size;
      return at + size;
    }

    packed(at, size, control) {
      const packed = (this.data[at] << 8) + this.data[at + 1] + 1,
        reset = (control >> 5) & 3;
      at += 2;
      if (reset === 3) this.begins = this.size;
      if (reset >= 2) this.properties(this.data[at++]);
      if (reset >= 1) this.reset();
      if (!this.literal || at + packed > this.data.length) throw broken();
      this.coder.start(this.data, at, at + packed);
      for (const end = this.size + size; this.size < end;) this.step(end);
      this.coder.normalise();
      return at + packed;
    }

    /* One literal or match. */
    step(end) {
      const { coder } = this,
        position = this.size - this.begins,
        low = position & ((1 << this.pb) - 1);
      if (!coder.bit(this.match, (this.state << 4) + low)) return this.putLiteral(position);
      let length = 1;
      if (!coder.bit(this.again[0], this.state)) {
        length = this.readLength(this.length, low);
        this.back = [this.distance(length), ...this.back.slice(0, 3)];
        this.state = this.state < 7 ? 7 : 10;
      } else if (!this.readAgain(low)) {
        this.state = this.state < 7 ? 9 : 11;
      } else {
        length = this.readLength(this.againLength, low);
        this.state = this.state < 7 ? 8 : 11;
      }
      const back = this.back[0] + 1;
      if (back > this.size - this.begins || this.size + length > end) throw broken();
      for (; length > 0; length--, this.size++) this.out[this.size] = this.out[this.size - back];
    }

    putLiteral(position) {
      const before = position ? this.out[this.size - 1] : 0;
      const context = ((position & ((1 << this.lp) - 1)) << this.lc) + (before >> (8 - this.lc));
      const offset = 0x300 * context;
      let node = 1;
      if (this.state >= 7) {
        for (let match = this.out[this.size - this.back[0] - 1]; node < 256; match <<= 1) {
          const expected = (match >> 7) & 1,
            bit = this.coder.bit(this.literal, offset + ((1 + expected) << 8) + node);
          node = 2 * node + bit;
          if (bit !== expected) break;
        }
      }
      while (node < 256) node = 2 * node + this.coder.bit(this.literal, offset + node);
      this.out[this.size++] = node & 255;
      this.state = this.state < 4 ? 0 : this.state < 10 ? this.state - 3 : this.state - 6;
    }

    /* Choose an earlier distance; whether a length follows. */
    readAgain(low) {
      const { coder, back } = this;
      if (!coder.bit(this.again[1], this.state)) return coder.bit(this.first, (this.state << 4) + low) === 1;
      const which = coder.bit(this.again[2], this.state) ? 2 + coder.bit(this.last, this.state) : 1;
      back.unshift(...back.splice(which, 1));
      return true;
    }

    readLength(table, low) {
      const { coder } = this;
      if (!coder.bit(table.choice, 0)) return 2 + coder.tree(table.low, low << 3, 3);
      if (!coder.bit(table.choice, 1)) return 10 + coder.tree(table.middle, low << 3, 3);
      return 18 + coder.tree(table.high, 0, 8);
    }

    distance(length) {
      const { coder } = this,
        slot = coder.tree(this.slots, Math.min(length - 2, 3) << 6, 6);
      if (slot < 4) return slot;
      const bits = (slot >> 1) - 1,
        base = (2 | (slot & 1)) * 2 ** bits;
      if (slot < 14) return base + coder.reverse(this.special, base - slot, bits);
      return base + coder.direct(bits - 4) * 16 + coder.reverse(this.aligned, 0, 4);
    }
  }

  /* The `size` bytes of a raw LZMA2 stream. */
  const unlzma = (data, size) => new Lzma2(data, size).run();

  Object.assign(ardm, { unlzma });
});
