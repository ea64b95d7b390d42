/* Operations on numbers of places or sites: arrays of rows, all planes of a row together, in float64.

   Every number of a certified program is an integer below 2^53, so float64 is exact.  A value is {kind, planes, most}:
   what it has a row for, and a bound of its absolute values, which says where 16 bits are enough.  One bound for all planes
   is coarser than the certificate, which has proved all else before the model was bundled. */
"use strict";

ARDM.define(function (ardm) {
  const { Refusal, Matrix } = ardm;
  const within = (x, lo, hi) => (x < lo ? lo : x > hi ? hi : x);
  const greatest = (data) => data.reduce((most, x) => Math.max(most, Math.abs(x)), 0);

  /* What clamping leaves of a largest absolute value. */
  const clamped = (op, most) => ("lo" in op.n ? Math.min(most, Math.max(Math.abs(op.n.lo), Math.abs(op.n.hi))) : most);

  /* run(op, inputs, out, count): rows of each input and of the result.  most(op, inputs): of the result.
     planes(op, inputs): of the result, if it has not those of the first input. */
  const ELEMENTWISE = {
    product: {
      most: (op, [a, b]) => a.most * b.most,
      run: (op, [a, b], out) => {
        for (let i = 0; i < out.length; i++) out[i] = a[i] * b[i];
      },
    },
    add: {
      most: (op, [a, b]) => a.most + b.most,
      run: (op, [a, b], out) => {
        for (let i = 0; i < out.length; i++) out[i] = a[i] + b[i];
      },
    },
    gate: {
      most: (op, [a, b]) => clamped(op, a.most * b.most * 2 ** -op.n.by + 1),
      run: (op, [a, b], out) => {
        const unit = 2 ** -op.n.by,
          lo = op.n.lo ?? -Infinity,
          hi = op.n.hi ?? Infinity;
        for (let i = 0; i < out.length; i++) out[i] = within(Math.floor(a[i] * b[i] * unit), lo, hi);
      },
    },
    shift: {
      most: (op, [a]) => clamped(op, a.most * 2 ** -op.n.by + 1),
      run: (op, [a], out) => {
        const unit = 2 ** -op.n.by,
          lo = op.n.lo ?? -Infinity,
          hi = op.n.hi ?? Infinity;
        for (let i = 0; i < out.length; i++) out[i] = within(Math.floor(a[i] * unit), lo, hi);
      },
    },
    table: {
      most: (op) => greatest(op.t.table.data),
      run: (op, [a], out) => {
        const table = op.t.table.data,
          { low } = op.n,
          last = table.length - 1;
        for (let i = 0; i < out.length; i++) out[i] = table[within(a[i] - low, 0, last)];
      },
    },
    less: {
      most: (op, [a, b]) => a.most + b.most,
      run: (op, [a, b], out, count) => {
        const planes = out.length / count;
        for (let i = 0; i < out.length; i++) out[i] = a[i] - b[(i / planes) | 0];
      },
    },
    concat: {
      planes: (op, inputs) => inputs.reduce((sum, a) => sum + a.planes, 0),
      most: (op, inputs) => Math.max(...inputs.map((a) => a.most)),
      run: (op, inputs, out, count) => {
        const wide = out.length / count;
        let first = 0;
        for (const a of inputs) {
          const planes = a.length / count;
          for (let r = 0, i = 0; r < count; r++)
            for (let p = 0, at = r * wide + first; p < planes; p++) out[at++] = a[i++];
          first += planes;
        }
      },
    },
    embed: {
      planes: (op, [a]) => a.planes * op.t.table.shape[1],
      most: (op) => greatest(op.t.table.data),
      run: (op, [a], out) => {
        const [last, wide] = [op.t.table.shape[0] - 1, op.t.table.shape[1]];
        for (let i = 0; i < a.length; i++)
          for (let e = 0, from = within(a[i], 0, last) * wide; e < wide; e++)
            out[i * wide + e] = op.t.table.data[from + e];
      },
    },
    nearby: {
      planes: (op, [a]) => a.planes / 2 / op.t.weight0.data.length,
      most: (op) => op.n.limit,
      run: nearby,
    },
    contrast: { most: (op) => Math.max(op.n.limit, 2 ** op.n.known), run: contrast },
  };

  function nearby(op, inputs, out, count) {
    const C = out.length / count,
      { fraction, limit } = op.n;
    for (let r = 0; r < count; r++)
      for (let c = 0; c < C; c++) {
        let top = 0,
          bottom = 0;
        inputs.forEach((a, m) => {
          const weight = op.t[`weight${m}`].data,
            unit = 2 ** op.n[`rise${m}`],
            n = weight.length;
          const at = r * 2 * C * n + c * n;
          let f = 0,
            g = 0;
          for (let i = 0; i < n; i++) ((f += weight[i] * a[at + i]), (g += weight[i] * a[at + C * n + i]));
          ((top += f * unit), (bottom += g * unit));
        });
        const mean = Math.floor((2 ** fraction * top + Math.floor(bottom / 2)) / bottom);
        out[r * C + c] = bottom > 0 ? within(mean, -limit, limit) : 0;
      }
  }

  function contrast(op, [a, mean], out, count) {
    const C = mean.length / count,
      n = a.length / count / C / 2,
      { fraction, by, limit, known } = op.n;
    const scale = 2 ** fraction,
      half = Math.floor(2 ** by / 2),
      unit = 2 ** -by,
      one = 2 ** known;
    for (let r = 0, at = 0; r < count; r++, at += C * n)
      for (let c = 0; c < C; c++)
        for (let i = 0; i < n; i++, at++) {
          const k = a[at + C * n];
          out[at] = within(Math.floor((scale * a[at] - mean[r * C + c] * k + half) * unit), -limit, limit);
          out[at + C * n] = one * k;
        }
  }

  /* --- products ------------------------------------------------------------------------------------------------------- */

  /* The matrices of a `linear` or `conv`: one, or one for each channel.  cells: how many rows of a are read for a result.
     weight: as in the file, where(cell, input): the number of the row of the weight. */
  function matrices(products, op, a, cells, where) {
    const { weight, bias, shift } = op.t,
      outputs = weight.shape[weight.shape.length - 1];
    const inputs = a.planes,
      size = cells * inputs * outputs,
      count = weight.data.length / size;
    return Array.from({ length: count }, (_, c) => {
      const part = (tensor, wide) => tensor.data.subarray(c * wide, (c + 1) * wide);
      const w = part(weight, size),
        given = {
          cells,
          inputs,
          outputs,
          weight: (cell, i, o) => w[where(cell, i) * outputs + o],
          bias: part(bias, outputs),
          shift: part(shift, outputs),
          lo: op.n.lo ?? null,
          hi: op.n.hi ?? null,
        };
      const sums = sumOf(w, outputs),
        fits = greatest(w) < 2 ** 15 && sums < 2 ** 26 && a.most < 2 ** 31;
      return fits ? new Matrix(products, { ...given, most: a.most, sums }) : new Wide(given);
    });
  }

  /* The most of Σ |weight| of an output. */
  function sumOf(weight, outputs) {
    const sums = new Float64Array(outputs);
    for (let i = 0, o = 0; i < weight.length; i++, o = o + 1 === outputs ? 0 : o + 1) sums[o] += Math.abs(weight[i]);
    return greatest(sums);
  }

  /* The largest absolute value of a product. */
  function mostOf(op, a) {
    const { weight, bias, shift } = op.t,
      outputs = weight.shape[weight.shape.length - 1],
      sums = new Float64Array(bias.data.length);
    const size = weight.data.length / (bias.data.length / outputs);
    weight.data.forEach((w, i) => (sums[Math.floor(i / size) * outputs + (i % outputs)] += Math.abs(w)));
    const all = sums.map((sum, o) => (sum * a.most + Math.abs(bias.data[o])) * 2 ** -shift.data[o] + 1);
    return clamped(op, greatest(all));
  }

  /* A matrix whose weights need float64.  read(row, cell): where the inputs of a cell begin in a, −1 outside. */
  class Wide {
    constructor({ cells, inputs, outputs, weight, bias, shift, lo, hi }) {
      Object.assign(this, { cells, inputs, outputs, bias, lo, hi, unit: Float64Array.from(shift, (by) => 2 ** -by) });
      this.weights = new Float64Array(cells * inputs * outputs);
      for (let c = 0, at = 0; c < cells; c++)
        for (let i = 0; i < inputs; i++) for (let o = 0; o < outputs; o++) this.weights[at++] = weight(c, i, o);
    }

    apply(a, read, rows, out) {
      const { cells, inputs, outputs, weights, bias, unit, lo, hi } = this,
        sum = new Float64Array(outputs);
      for (let r = 0; r < rows; r++) {
        sum.set(bias);
        for (let c = 0; c < cells; c++) {
          const from = read(r, c);
          for (let i = 0; from >= 0 && i < inputs; i++) {
            const x = a[from + i],
              w = (c * inputs + i) * outputs;
            if (x !== 0) for (let o = 0; o < outputs; o++) sum[o] += x * weights[w + o];
          }
        }
        for (let o = 0; o < outputs; o++) {
          const x = Math.floor(sum[o] * unit[o]);
          out[r * outputs + o] = lo === null ? x : within(x, lo, hi);
        }
      }
    }
  }

  /* Memory for rows of 16 bits, and the addresses of their cells. */
  class Rows {
    /* rows: the most results at once, of `cells` cells each; held: rows of planes numbers. */
    constructor(products, planes, held, rows, cells) {
      this.products = products;
      this.planes = planes;
      this.stride = 4 * Math.ceil(planes / 2);
      this.nothing = products.take(this.stride);
      this.data = products.take(this.stride * held);
      this.cells = products.take(4 * cells * (rows + 3));
    }

    /* Write rows of a, from row `first`, to row `at` on. */
    put(a, count, at = 0, first = 0) {
      const { halves } = this.products,
        { planes } = this,
        wide = this.stride / 2;
      for (let r = 0, i = first * planes, to = this.data / 2 + at * wide; r < count; r++, to += wide)
        for (let p = 0; p < planes; p++) halves[to + p] = a[i++];
    }

    /* Write the bits of rows of a that belong to a limb; the last one has their sign. */
    putLimb(a, count, limb, bits, last) {
      const { halves } = this.products,
        { planes } = this,
        wide = this.stride / 2,
        unit = 2 ** (-bits * limb),
        mask = 2 ** bits - 1;
      for (let r = 0, i = 0, to = this.data / 2; r < count; r++, to += wide)
        for (let p = 0; p < planes; p++) {
          const above = Math.floor(a[i++] * unit);
          halves[to + p] = last ? above : above & mask;
        }
    }
  }

  /* Applies the matrices of `linear` operations to plain rows. */
  class Linear {
    constructor(products, op, a, rows) {
      this.matrices = matrices(products, op, a, 1, (cell, i) => i);
      this.planes = a.planes;
      if (this.matrices.every((matrix) => matrix instanceof Wide)) return;
      this.rows = new Rows(products, a.planes, rows + 3, rows, 1);
      this.sums = products.take((rows + 3) * 32 * Math.ceil(this.matrices[0].outputs / 8));
      for (let r = 0; r < rows + 3; r++)
        products.words[this.rows.cells / 4 + r] = this.rows.data + r * this.rows.stride;
    }

    /* channel: of all rows. */
    run(a, count, channel, out) {
      const matrix = this.matrices[this.matrices.length > 1 ? channel : 0];
      if (matrix instanceof Wide) return matrix.apply(a, (r) => r * this.planes, count, out);
      return matrix.apply(this.rows, a, count, this.sums, out);
    }
  }

  /* Kinds, planes and ranges of all values of a program; special: those of operations that are not in ELEMENTWISE. */
  function describe(model, special) {
    const K = model.classes,
      C = model.channels;
    const values = { value: { kind: "map", planes: C, most: K - 1 }, depth: { kind: "map", planes: C, most: 1 } };
    for (const op of model.ops) {
      const inputs = op.inputs.map((name) => values[name]),
        rule = special[op.name] || ELEMENTWISE[op.name];
      if (!rule)
        throw new Refusal(`Model ${model.name} needs the operation ${op.name}, which this page does not have.`);
      const kind = rule.kind || inputs[0].kind,
        planes = rule.planes ? rule.planes(op, inputs, C) : inputs[0].planes;
      values[op.out] = { kind, planes, most: rule.most(op, inputs) };
    }
    return values;
  }

  Object.assign(ardm, { ELEMENTWISE, Wide, Rows, Linear, matrices, mostOf, describe, within });
});
