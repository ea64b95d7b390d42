/* Raw deflate (RFC 1951): unpacked up to a limit, and packed as stored blocks. */
"use strict";

ARDM.define(function (ardm) {
  const { damaged, join, littleEndian } = ardm;
  const ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
  const steps = (count, group, first) => {
    const extra = Array.from({ length: count }, (_, k) => Math.max(0, Math.floor(k / group) - 1));
    let base = first;
    return { extra, base: extra.map((bits) => (base += 2 ** bits) - 2 ** bits) };
  };
  const LENGTHS = steps(28, 4, 3);
  (LENGTHS.base.push(258), LENGTHS.extra.push(0));
  const DISTANCES = steps(30, 2, 1);

  /* A canonical Huffman code as counts of each length, and symbols in order. */
  function huffman(lengths) {
    const count = new Uint16Array(16),
      symbol = new Uint16Array(lengths.length),
      offset = new Uint16Array(16);
    lengths.forEach((length) => count[length]++);
    count[0] = 0;
    let left = 1;
    for (let bits = 1; bits < 16; bits++)
      if ((left = 2 * left - count[bits]) < 0) throw damaged("it holds no deflated bytes");
    for (let bits = 1; bits < 15; bits++) offset[bits + 1] = offset[bits] + count[bits];
    lengths.forEach((length, k) => length && (symbol[offset[length]++] = k));
    return { count, symbol };
  }

  const FIXED = [
    huffman(Array.from({ length: 288 }, (_, k) => (k < 144 ? 8 : k < 256 ? 9 : k < 280 ? 7 : 8))),
    huffman(new Array(30).fill(5)),
  ];

  class Inflater {
    constructor(data, most) {
      Object.assign(this, { data, most, at: 0, held: 0, bits: 0, size: 0 });
      this.out = new Uint8Array(Math.min(most, 4 * data.length + 1024));
    }

    read(count) {
      while (this.bits < count) {
        if (this.at === this.data.length) throw damaged("its deflated bytes end too early");
        this.held |= this.data[this.at++] << this.bits;
        this.bits += 8;
      }
      const value = this.held & ((1 << count) - 1);
      this.held >>>= count;
      this.bits -= count;
      return value;
    }

    symbol({ count, symbol }) {
      for (let code = 0, first = 0, index = 0, bits = 1; bits < 16; bits++) {
        code |= this.read(1);
        if (code - count[bits] < first) return symbol[index + code - first];
        index += count[bits];
        first = (first + count[bits]) << 1;
        code <<= 1;
      }
      throw damaged("it holds no deflated bytes");
    }

    grow(count) {
      if (this.size + count > this.most) throw damaged(`it unpacks to more than ${this.most} bytes`);
      if (this.size + count <= this.out.length) return;
      const larger = new Uint8Array(Math.min(this.most, 2 * this.out.length + count));
      larger.set(this.out);
      this.out = larger;
    }

    stored() {
      this.held = this.bits = 0;
      const [a, b, c, d] = this.data.subarray(this.at, this.at + 4),
        size = a | (b << 8);
      if (!((size ^ (c | (d << 8))) === 0xffff && this.at + 4 + size <= this.data.length))
        throw damaged("it holds no deflated bytes");
      this.grow(size);
      this.out.set(this.data.subarray(this.at + 4, this.at + 4 + size), this.size);
      ((this.at += 4 + size), (this.size += size));
    }

    codes() {
      const literals = this.read(5) + 257,
        distances = this.read(5) + 1,
        count = this.read(4) + 4;
      const lengths = new Array(19).fill(0);
      for (let k = 0; k < count; k++) lengths[ORDER[k]] = this.read(3);
      const code = huffman(lengths),
        all = [];
      while (all.length < literals + distances) {
        const symbol = this.symbol(code);
        if (symbol < 16) all.push(symbol);
        else if (symbol === 16 && !all.length) throw damaged("it holds no deflated bytes");
        else {
          const value = symbol === 16 ? all[all.length - 1] : 0;
          const repeat = symbol === 16 ? 3 + this.read(2) : symbol === 17 ? 3 + this.read(3) : 11 + this.read(7);
          for (let k = 0; k < repeat; k++) all.push(value);
        }
      }
      if (all.length > literals + distances) throw damaged("it holds no deflated bytes");
      return [huffman(all.slice(0, literals)), huffman(all.slice(literals))];
    }

    packed([literal, distance]) {
      for (let symbol; (symbol = this.symbol(literal)) !== 256;) {
        if (symbol < 256) {
          this.grow(1);
          this.out[this.size++] = symbol;
          continue;
        }
        if (symbol > 285) throw damaged("it holds no deflated bytes");
        const length = LENGTHS.base[symbol - 257] + this.read(LENGTHS.extra[symbol - 257]);
        const code = this.symbol(distance);
        const back = code < 30 ? DISTANCES.base[code] + this.read(DISTANCES.extra[code]) : Infinity;
        if (back > this.size) throw damaged("it holds no deflated bytes");
        this.grow(length);
        for (let k = 0; k < length; k++, this.size++) this.out[this.size] = this.out[this.size - back];
      }
    }

    run() {
      for (let last = 0; !last;) {
        last = this.read(1);
        const kind = this.read(2);
        if (kind === 0) this.stored();
        else if (kind === 3) throw damaged("it holds no deflated bytes");
        else this.packed(kind === 1 ? FIXED : this.codes());
      }
      return this.out.subarray(0, this.size);
    }
  }

  /* The bytes of a raw deflate stream.  The whole input has to be one; `most`: the most bytes it may unpack to. */
  function inflate(data, most) {
    const inflater = new Inflater(data, most),
      out = inflater.run();
    if (inflater.at !== data.length) throw damaged("bytes follow its deflated bytes");
    return out;
  }

  /* A raw deflate stream of stored blocks. */
  function store(data) {
    const parts = [];
    for (let at = 0; at === 0 || at < data.length; at += 65535) {
      const block = data.subarray(at, at + 65535);
      const sizes = [littleEndian(block.length, 2), littleEndian(block.length ^ 0xffff, 2)];
      parts.push([at + 65535 >= data.length ? 1 : 0], ...sizes, block);
    }
    return join(parts);
  }

  Object.assign(ardm, { inflate, store });
});
