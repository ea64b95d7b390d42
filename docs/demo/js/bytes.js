/* Bytes: errors, a reader that trusts nothing, checksums, SHA-256, base64. */
"use strict";

ARDM.define(function (ardm) {
  /* What a person is told, in one line. */
  class Refusal extends Error {}

  const damaged = (what) => new Refusal(`This file is damaged: ${what}.`);

  /* Numbers from some bytes, front to back. */
  class Reader {
    constructor(data, at = 0, end = data.length) {
      Object.assign(this, { data, at, end });
    }

    get left() {
      return this.end - this.at;
    }

    take(count, what) {
      if (!(count <= this.left)) throw damaged(`it ends within its ${what}`);
      this.at += count;
      return this.data.subarray(this.at - count, this.at);
    }

    byte(what) {
      return this.take(1, what)[0];
    }

    /* An unsigned LEB128 integer below 2^63 in its shortest form.  Above 2^53 it is rounded: no limit is that large. */
    varint(what) {
      for (let value = 0, unit = 1, count = 1; ; count++, unit *= 128) {
        const byte = this.byte(what);
        value += (byte & 127) * unit;
        if (byte < 128) {
          if (byte === 0 && count > 1) throw damaged(`its ${what} is not in the shortest form`);
          return value;
        }
        if (count === 9) throw damaged(`its ${what} is too large`);
      }
    }

    /* A little-endian integer. */
    integer(size, what) {
      return this.take(size, what).reduceRight((value, byte) => value * 256 + byte, 0);
    }

    since(start) {
      return this.data.subarray(start, this.at);
    }

    part(count, what) {
      const bytes = this.take(count, what);
      return new Reader(bytes);
    }
  }

  function varint(value) {
    const out = [];
    for (; value >= 128; value = Math.floor(value / 128)) out.push((value % 128) | 128);
    return Uint8Array.from([...out, value]);
  }

  function littleEndian(value, size) {
    const out = new Uint8Array(size);
    for (let i = 0; i < size; i++, value = Math.floor(value / 256)) out[i] = value % 256;
    return out;
  }

  function join(parts) {
    const out = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
    let at = 0;
    for (const part of parts) out.set(part, (at += part.length) - part.length);
    return out;
  }

  const same = (a, b) => a.length === b.length && a.every((byte, i) => byte === b[i]);

  const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
    for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
    return n;
  });

  /* The CRC-32 of zlib and PNG of parts, one after the other. */
  function crc32(...parts) {
    let crc = -1;
    for (const part of parts) for (let i = 0; i < part.length; i++) crc = TABLE[(crc ^ part[i]) & 255] ^ (crc >>> 8);
    return ~crc >>> 0;
  }

  function crc8(data) {
    let state = 0;
    for (const byte of data) {
      state ^= byte;
      for (let k = 0; k < 8; k++) state = state & 128 ? ((state << 1) ^ 7) & 255 : state << 1;
    }
    return state;
  }

  /* --- SHA-256, which pages opened from a folder have no library for -------------------------------------------------- */

  const primes = (count) => {
    const found = [];
    for (let n = 2; found.length < count; n++) if (found.every((p) => n % p)) found.push(n);
    return found;
  };
  const fraction = (root) => Math.floor((root - Math.floor(root)) * 2 ** 32) | 0;
  const ROUNDS = Int32Array.from(primes(64), (p) => fraction(Math.cbrt(p)));
  const START = Int32Array.from(primes(8), (p) => fraction(Math.sqrt(p)));

  /* SHA-256 of what `add` was given, as 32 bytes. */
  class Sha256 {
    constructor() {
      this.state = Int32Array.from(START);
      this.block = new Uint8Array(64);
      this.words = new Int32Array(64);
      this.length = 0;
    }

    add(data) {
      for (let at = 0; at < data.length;) {
        const filled = this.length % 64,
          count = Math.min(64 - filled, data.length - at);
        for (let i = 0; i < count; i++) this.block[filled + i] = data[at + i];
        ((at += count), (this.length += count));
        if (filled + count === 64) this.mix();
      }
      return this;
    }

    digest() {
      const bits = this.length * 8;
      this.add([128]);
      while (this.length % 64 !== 56) this.add([0]);
      this.add(littleEndian(bits, 8).reverse());
      return Uint8Array.from({ length: 32 }, (_, i) => this.state[i >> 2] >>> (24 - 8 * (i & 3)));
    }

    mix() {
      const { words: w, block, state } = this;
      for (let i = 0; i < 16; i++)
        w[i] = (block[4 * i] << 24) | (block[4 * i + 1] << 16) | (block[4 * i + 2] << 8) | block[4 * i + 3];
      for (let i = 16; i < 64; i++) {
        const x = w[i - 15],
          y = w[i - 2];
        const s = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
        const t = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
        w[i] = (w[i - 16] + s + w[i - 7] + t) | 0;
      }
      let a = state[0],
        b = state[1],
        c = state[2],
        d = state[3],
        e = state[4],
        f = state[5],
        g = state[6],
        h = state[7];
      for (let i = 0; i < 64; i++) {
        const s = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
        const t = (h + s + ((e & f) ^ (~e & g)) + ROUNDS[i] + w[i]) | 0;
        const u = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
        const v = (u + ((a & b) ^ (a & c) ^ (b & c))) | 0;
        ((h = g), (g = f), (f = e), (e = (d + t) | 0), (d = c), (c = b), (b = a), (a = (t + v) | 0));
      }
      ((state[0] += a), (state[1] += b), (state[2] += c), (state[3] += d));
      ((state[4] += e), (state[5] += f), (state[6] += g), (state[7] += h));
    }
  }

  const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const text = (string) => new TextEncoder().encode(string);

  function fromBase64(string) {
    const binary = atob(string);
    const out = new Uint8Array(binary.length);
    for (let i = 0; i < out.length; i++) out[i] = binary.charCodeAt(i);
    return out;
  }

  Object.assign(ardm, { Refusal, damaged, Reader, varint, littleEndian, join, same, crc32, crc8, Sha256, hex, text });
  Object.assign(ardm, { fromBase64 });
});
