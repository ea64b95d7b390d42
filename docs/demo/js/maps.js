/* Operations on whole maps: numbers of all places of an item, row by row, the planes of a place together. */
"use strict";

ARDM.define(function (ardm) {
  const { Matrix, Rows, Wide, matrices, mostOf, within } = ardm;
  const kept = (op, [a]) => a.most;

  /* ⌊(scale · total + extra) / divisor⌋; terms: [weight, value] pairs whose products sum to total, and their sizes to
     `size`.  Where these leave float64 it counts in integers of any length. */
  function quotient(terms, total, size, scale, extra, divisor) {
    if (size < 2 ** 52 && divisor * scale + Math.abs(extra) < 2 ** 52) {
      const whole = Math.floor(total / divisor),
        rest = total - whole * divisor;
      return whole * scale + Math.floor((rest * scale + extra) / divisor);
    }
    const sum = terms().reduce((all, [weight, value]) => all + BigInt(weight) * BigInt(value), 0n);
    const above = BigInt(scale) * sum + BigInt(extra),
      below = BigInt(divisor),
      found = above / below;
    return Number(above % below < 0n ? found - 1n : found);
  }

  /* G and the total of plane p of some maps (3C planes each, k, v, w) at a place. */
  function near(op, maps, place, C, c, kind) {
    const weights = op.t.weight.data;
    let known = op.n.prior,
      total = 0,
      size = 0;
    for (let m = 0; m < maps.length; m++) {
      const at = place * 3 * C + c,
        term = weights[m] * maps[m][at + kind * C];
      ((known += weights[m] * maps[m][at]), (total += term), (size += Math.abs(term)));
    }
    const terms = () => maps.map((map, m) => [weights[m], map[place * 3 * C + c + kind * C]]);
    return { known, total, size, terms };
  }

  function centre(op, maps, out, count) {
    const C = out.length / count,
      { fraction, lo, hi } = op.n;
    for (let i = 0; i < out.length; i++) {
      const { known, total, size, terms } = near(op, maps, Math.floor(i / C), C, i % C, 1);
      out[i] = within(quotient(terms, total, size, 2 ** fraction, Math.floor(known / 2), known), lo, hi);
    }
  }

  function spread(op, [c, ...maps], out, count) {
    const C = out.length / count,
      { fine, extra, coarse, rise, floor, lo, hi } = op.n;
    for (let i = 0; i < out.length; i++) {
      const { known, total, size, terms } = near(op, maps, Math.floor(i / C), C, i % C, 2);
      const square = quotient(terms, total, size, 2 ** fine, extra, known) - Math.floor((c[i] * c[i]) / 2 ** coarse);
      out[i] = within(Math.floor(Math.sqrt(4 ** rise * Math.max(0, square) + floor)), lo, hi);
    }
  }

  /* Sums over squares of odd side, by running sums along rows and then columns. */
  function box(op, [a], out, { height, width }) {
    const half = (op.n.side - 1) / 2,
      planes = a.length / height / width,
      across = new Float64Array(a.length);
    const slide = (from, to, start, step, count) => {
      let sum = 0;
      for (let k = 0; k < Math.min(half, count); k++) sum += from[start + k * step];
      for (let k = 0; k < count; k++) {
        if (k + half < count) sum += from[start + (k + half) * step];
        if (k - half > 0) sum -= from[start + (k - half - 1) * step];
        to[start + k * step] = sum;
      }
    };
    for (let y = 0; y < height; y++)
      for (let p = 0; p < planes; p++) slide(a, across, y * width * planes + p, planes, width);
    for (let x = 0; x < width * planes; x++) slide(across, out, x, width * planes, height);
  }

  function pool(op, [a], out, { height, width }, planes) {
    const tall = Math.ceil(height / 2),
      wide = Math.ceil(width / 2);
    for (let y = 0, at = 0; y < tall; y++)
      for (let x = 0; x < wide; x++)
        for (let p = 0; p < planes; p++, at++) {
          const rows = 2 * y + 1 < height ? 2 : 1,
            columns = 2 * x + 1 < width ? 2 : 1;
          let sum = 0;
          for (let i = 0; i < rows; i++)
            for (let j = 0; j < columns; j++) sum += a[((2 * y + i) * width + 2 * x + j) * planes + p];
          out[at] = Math.floor(((4 / (rows * columns)) * sum + 2) / 4);
        }
  }

  function grow(op, [a], out, from, planes, to) {
    for (let y = 0, at = 0; y < to.height; y++)
      for (let x = 0; x < to.width; x++, at += planes) {
        const row = Math.floor((y * from.height) / to.height) * from.width + Math.floor((x * from.width) / to.width);
        for (let p = 0; p < planes; p++) out[at + p] = a[row * planes + p];
      }
  }

  /* A `conv`: its matrix, and for each size of map the addresses of the cells around every place. */
  class Conv {
    constructor(walk, op, a) {
      Object.assign(this, { walk, n: op.n, planes: a.planes });
      const { tall, wide } = op.n,
        cells = tall * wide;
      [this.matrix] = matrices(
        walk.products,
        op,
        a,
        cells,
        (cell, p) => (p * tall + Math.floor(cell / wide)) * wide + (cell % wide),
      );
    }

    /* The place that a cell of a place lies at, −1 outside. */
    place(i, cell, { height, width }) {
      const { step, top, left, wide } = this.n;
      const y = Math.floor(i / width) + Math.floor(cell / wide) * step - top,
        x = (i % width) + (cell % wide) * step - left;
      return y < 0 || y >= height || x < 0 || x >= width ? -1 : y * width + x;
    }

    /* Memory for maps of a size, which convolutions of one geometry share. */
    rows(size) {
      const { walk, n, planes, matrix } = this,
        count = size.height * size.width;
      const key = [size.height, size.width, planes, n.tall, n.wide, n.step, n.top, n.left].join();
      if (walk.shared.has(key)) return walk.shared.get(key);
      const rows = new Rows(walk.products, planes, count, count, matrix.cells),
        { words } = walk.products;
      for (let i = 0, at = rows.cells / 4; i < count + 3; i++)
        for (let k = 0; k < matrix.cells; k++, at++) {
          const place = i < count ? this.place(i, k, size) : -1;
          words[at] = place < 0 ? rows.nothing : rows.data + place * rows.stride;
        }
      walk.shared.set(key, rows);
      return rows;
    }

    run(a, out, size) {
      const { matrix, planes, walk } = this,
        count = size.height * size.width;
      if (matrix instanceof Wide) {
        matrix.apply(
          a,
          (i, cell) => {
            const place = this.place(i, cell, size);
            return place < 0 ? -1 : place * planes;
          },
          count,
          out,
        );
        return;
      }
      matrix.apply(this.rows(size), a, count, walk.sums(count, matrix), out);
    }
  }

  const outputs = (op) => op.t.weight.shape[op.t.weight.shape.length - 1];

  /* Beyond those on any rows.  size: of the result, from those of the inputs. */
  const MAPS = {
    box: { most: (op, [a]) => a.most * op.n.side ** 2, run: box },
    pool: {
      most: (op, [a]) => a.most + 1,
      run: pool,
      size: ([{ height, width }]) => ({ height: Math.ceil(height / 2), width: Math.ceil(width / 2) }),
    },
    grow: { most: kept, run: grow, size: ([, size]) => size },
    centre: {
      most: (op) => Math.max(Math.abs(op.n.lo), Math.abs(op.n.hi)),
      planes: (op, [a]) => a.planes / 3,
      run: (op, maps, out, size) => centre(op, maps, out, size.height * size.width),
    },
    spread: {
      most: (op) => Math.max(Math.abs(op.n.lo), Math.abs(op.n.hi)),
      run: (op, maps, out, size) => spread(op, maps, out, size.height * size.width),
    },
    known: { most: (op, [a]) => a.most + 1 },
    conv: { planes: outputs, most: (op, [a]) => mostOf(op, a) },
    at: { kind: "rows", most: kept },
    window: { kind: "rows", planes: (op, [a]) => a.planes * (2 * op.n.radius + 1) ** 2, most: kept },
    channel: { most: (op, [a]) => a.most + op.t.table.data.reduce((most, x) => Math.max(most, Math.abs(x)), 0) },
    pick: { planes: () => 1, most: kept },
    linear: { planes: outputs, most: (op, [a]) => mostOf(op, a) },
  };

  Object.assign(ardm, { MAPS, Conv });
});
