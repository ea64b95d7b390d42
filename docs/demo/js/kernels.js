/* Products of matrices of small integers, which take nearly all of the time.

   `Products` multiplies rows by a matrix: inputs and weights of 16 bits, sums of 32.  It does so in WebAssembly, eight
   multiplications an instruction, or in JavaScript where that is missing; both compute the same integers.

   A row of inputs is cut into *cells* of the same length, each of which may lie anywhere in memory: a convolution reads the
   cells around a place where they are, and nothing is copied.  Outputs are in panels of 8, inputs in pairs. */
"use strict";

ARDM.define(function (ardm) {
  const PAGE = 65536;

  /* --- a WebAssembly module, written byte by byte --------------------------------------------------------------------- */

  function leb(n) {
    const out = [];
    for (; ; n >>= 7) {
      if (n >= -64 && n < 64) return [...out, n & 127];
      out.push((n & 127) | 128);
    }
  }
  const unsigned = (n) => Array.from(ardm.varint(n));
  const vector = (items) => [...unsigned(items.length), ...items.flat()];
  const section = (id, ...body) => [id, ...vector(body.flat())];

  const I32 = 0x7f,
    V128 = 0x7b;
  const get = (n) => [0x20, n],
    set = (n) => [0x21, n];
  const number = (n) => [0x41, ...leb(n)];
  const ADD = [0x6a],
    MULTIPLY = [0x6c],
    LESS = [0x48];
  const simd = (code) => [0xfd, ...unsigned(code)];
  const LOAD = (offset) => [0x28, 2, ...unsigned(offset)];
  const SPREAD = (offset) => [...simd(9), 2, ...unsigned(offset)];
  const LOAD_VECTOR = (offset) => [...simd(0), 4, ...unsigned(offset)];
  const STORE_VECTOR = (offset) => [...simd(11), 4, ...unsigned(offset)];
  const DOT = simd(0xba),
    ADD_VECTOR = simd(0xae),
    ZERO = [...simd(12), ...new Array(16).fill(0)];
  const step = (local, by) => [get(local), by, ADD, set(local)].flat();
  const until = (local, end, body) => [0x03, 0x40, ...body, ...get(local), ...get(end), ...LESS, 0x0d, 0, 0x0b];

  /* product(cells, rows, perRow, bytes, weights, out, stride): out[row][0..7] = Σ over cells and pairs, for all rows.

     cells: addresses of cells, perRow a row; rows: a multiple of 4; bytes: of a cell, a multiple of 4; weights: of the
     panel, in the order of the inputs, 8 pairs each; stride: bytes from one row of out to the next. */
  function assembled() {
    const [CELLS, ROWS, PER_ROW, BYTES, WEIGHTS, OUT, STRIDE] = [0, 1, 2, 3, 4, 5, 6];
    const [ROW, CELL, AT, WEIGHT, LINE] = [7, 8, 9, 10, 11];
    const POINTER = [12, 13, 14, 15],
      SUM = [16, 17, 18, 19, 20, 21, 22, 23],
      LEFT = 24,
      RIGHT = 25,
      PAIR = 26;
    const pair = [
      get(WEIGHT),
      LOAD_VECTOR(0),
      set(LEFT),
      get(WEIGHT),
      LOAD_VECTOR(16),
      set(RIGHT),
      ...POINTER.flatMap((pointer, r) => [
        get(pointer),
        get(AT),
        ADD,
        SPREAD(0),
        set(PAIR),
        get(PAIR),
        get(LEFT),
        DOT,
        get(SUM[2 * r]),
        ADD_VECTOR,
        set(SUM[2 * r]),
        get(PAIR),
        get(RIGHT),
        DOT,
        get(SUM[2 * r + 1]),
        ADD_VECTOR,
        set(SUM[2 * r + 1]),
      ]),
      step(WEIGHT, number(32)),
      step(AT, number(4)),
    ].flat();
    const cell = [
      POINTER.flatMap((pointer, r) =>
        [get(LINE), number(4 * r), get(PER_ROW), MULTIPLY, ADD, LOAD(0), set(pointer)].flat(),
      ),
      number(0),
      set(AT),
      until(AT, BYTES, pair),
      step(LINE, number(4)),
      step(CELL, number(1)),
    ].flat();
    const row = [
      SUM.flatMap((sum) => [ZERO, set(sum)].flat()),
      get(WEIGHTS),
      set(WEIGHT),
      get(CELLS),
      set(LINE),
      number(0),
      set(CELL),
      until(CELL, PER_ROW, cell),
      ...[0, 1, 2, 3].map((r) =>
        [
          get(OUT),
          get(SUM[2 * r]),
          STORE_VECTOR(0),
          get(OUT),
          get(SUM[2 * r + 1]),
          STORE_VECTOR(16),
          step(OUT, get(STRIDE)),
        ].flat(),
      ),
      get(CELLS),
      number(16),
      get(PER_ROW),
      MULTIPLY,
      ADD,
      set(CELLS),
      step(ROW, number(4)),
    ].flat();
    const body = [
      ...vector([
        [9, I32],
        [11, V128],
      ]),
      ...number(0),
      ...set(ROW),
      ...until(ROW, ROWS, row),
      0x0b,
    ];
    // prettier-ignore
    return Uint8Array.from([
      0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
      ...section(1, vector([[0x60, ...vector(new Array(7).fill([I32])), 0]])), // the type of the function
      ...section(2, vector([[...vector([..."env"].map((c) => [c.charCodeAt(0)])), 1, 0x6d, 2, 0, 1]])), // memory env.m
      ...section(3, vector([[0]])),
      ...section(7, vector([[1, 0x70, 0, 0]])), // exported as p
      ...section(10, vector([vector(body)])),
    ]);
  }

  /* The same in JavaScript. */
  function plain(memory) {
    return function (cells, rows, perRow, bytes, weights, out, stride) {
      const words = new Int32Array(memory.buffer),
        halves = new Int16Array(memory.buffer),
        sum = new Int32Array(8);
      for (let row = 0; row < rows; row++) {
        sum.fill(0);
        for (let cell = 0, w = weights >> 1; cell < perRow; cell++) {
          const from = words[(cells >> 2) + row * perRow + cell] >> 1;
          for (let i = 0; i < bytes >> 1; i += 2, w += 16) {
            const a = halves[from + i],
              b = halves[from + i + 1];
            if (a === 0 && b === 0) continue;
            for (let o = 0; o < 8; o++) sum[o] += Math.imul(a, halves[w + 2 * o]) + Math.imul(b, halves[w + 2 * o + 1]);
          }
        }
        words.set(sum, (out + row * stride) >> 2);
      }
    };
  }

  /* Memory for one program, and the product over it.  native: whether it is WebAssembly. */
  class Products {
    constructor(native = true) {
      this.top = 16; // the first bytes are zeros: a cell outside of an item
      this.memory = null;
      if (native && typeof WebAssembly === "object") this.open();
      this.native = this.memory !== null;
      if (!this.native) {
        this.memory = { buffer: new ArrayBuffer(PAGE) };
        this.product = plain(this.memory);
      }
      this.views();
    }

    open() {
      try {
        const memory = new WebAssembly.Memory({ initial: 1 });
        const module = new WebAssembly.Module(assembled());
        this.product = new WebAssembly.Instance(module, { env: { m: memory } }).exports.p;
        this.memory = memory;
      } catch (error) {
        if (!(error instanceof WebAssembly.CompileError)) throw error; // no vector instructions here
      }
    }

    views() {
      this.halves = new Int16Array(this.memory.buffer);
      this.words = new Int32Array(this.memory.buffer);
    }

    /* The address of some fresh bytes of zeros, a multiple of 16. */
    take(bytes) {
      const at = this.top;
      this.top += Math.ceil(bytes / 16) * 16;
      const more = Math.ceil((this.top - this.memory.buffer.byteLength) / PAGE);
      if (more > 0) this.grow(Math.max(more, (this.memory.buffer.byteLength / PAGE / 4) | 0));
      return at;
    }

    /* Forget what was taken since `top` was this. */
    release(top) {
      this.halves.fill(0, top / 2, this.top / 2);
      this.top = top;
    }

    grow(pages) {
      if (this.native) this.memory.grow(pages);
      else {
        const larger = new Int16Array(this.halves.length + (pages * PAGE) / 2);
        larger.set(this.halves);
        this.memory.buffer = larger.buffer;
      }
      this.views();
    }
  }

  /* A matrix as `Products` reads it, and what becomes of the sums: clamp((sum + bias) >> shift).

     weight(cell, input, output): its numbers, of 16 bits.  cells × inputs inputs, `outputs` outputs; lo, hi: null without
     limits.  Inputs are cut into `limbs` of some bits, so that the sums of each fit 32 bits; most: of their absolute value. */
  class Matrix {
    constructor(products, { cells, inputs, outputs, weight, bias, shift, lo = null, hi = null, most, sums }) {
      Object.assign(this, { products, cells, outputs, bias, lo, hi });
      this.unit = Float64Array.from(shift, (by) => 2 ** -by);
      this.pairs = Math.ceil(inputs / 2);
      this.panels = Math.ceil(outputs / 8);
      this.panel = cells * this.pairs * 32;
      this.bits = Matrix.bits(most, sums);
      this.limbs = Math.ceil((Math.floor(Math.log2(Math.max(1, most))) + 2) / this.bits);
      this.weights = products.take(this.panels * this.panel);
      for (let o = 0; o < outputs; o++)
        for (let c = 0; c < cells; c++)
          for (let i = 0; i < inputs; i++) {
            const at = (o >> 3) * this.panel + (c * this.pairs + (i >> 1)) * 32 + (o & 7) * 4 + (i & 1) * 2;
            products.halves[(this.weights + at) >> 1] = weight(c, i, o);
          }
    }

    /* The bits of a limb: all that inputs have with their sign, or fewer.  sums: the most of Σ |weight|. */
    static bits(most, sums) {
      if (most < 2 ** 15 && most * sums < 2 ** 31) return 16;
      return Math.min(15, 30 - Math.ceil(Math.log2(Math.max(1, sums))));
    }

    /* The addresses of the sums of rows whose cells are at `cells` (a multiple of 4 rows). */
    product(cells, rows, sums) {
      const stride = this.panels * 32,
        padded = Math.ceil(rows / 4) * 4;
      for (let panel = 0; panel < this.panels; panel++)
        this.products.product(
          cells,
          padded,
          this.cells,
          4 * this.pairs,
          this.weights + panel * this.panel,
          sums + 32 * panel,
          stride,
        );
    }

    /* out (rows × outputs), Float64Array, of one limb that is in memory already. */
    multiply(cells, rows, sums, out) {
      this.product(cells, rows, sums);
      this.finish(rows, sums, null, out);
    }

    /* Sums of the last limb, and those of the limbs before it, to results. */
    finish(rows, sums, before, out) {
      const { words } = this.products,
        { outputs, bias, unit, lo, hi, panels } = this;
      const place = 2 ** (this.bits * (this.limbs - 1));
      for (let row = 0, at = 0; row < rows; row++) {
        const from = (sums >> 2) + row * panels * 8;
        for (let o = 0; o < outputs; o++, at++) {
          const sum = before === null ? words[from + o] : before[at] + place * words[from + o];
          const x = Math.floor((sum + bias[o]) * unit[o]);
          out[at] = lo === null ? x : x < lo ? lo : x > hi ? hi : x;
        }
      }
    }

    /* The same for rows of a that are not in memory yet: limb after limb, the lowest first. */
    apply(store, a, rows, sums, out) {
      const { outputs, panels, bits, limbs } = this;
      if (limbs === 1) return (store.put(a, rows), this.multiply(store.cells, rows, sums, out));
      const before = out.fill(0, 0, rows * outputs);
      for (let limb = 0; limb < limbs; limb++) {
        store.putLimb(a, rows, limb, bits, limb === limbs - 1);
        this.product(store.cells, rows, sums);
        if (limb === limbs - 1) break;
        const { words } = this.products,
          place = 2 ** (bits * limb);
        for (let row = 0, at = 0; row < rows; row++)
          for (let o = 0, from = (sums >> 2) + row * panels * 8; o < outputs; o++)
            before[at++] += place * words[from++];
      }
      return this.finish(rows, sums, before, out);
    }
  }

  Object.assign(ardm, { Products, Matrix });
});
