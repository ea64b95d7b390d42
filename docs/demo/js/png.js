/* PNG, read to its samples as they are and written.  A browser would convert colours while it reads. */
"use strict";

ARDM.define(function (ardm) {
  const { Refusal, inflate, store, crc32, join, text, same, damaged } = ardm;
  const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
  const PLANES = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
  const MOST = 2 ** 24;

  const isPng = (data) => same(SIGNATURE, data.subarray(0, 8));
  const number = (data, at) => ((data[at] << 24) | (data[at + 1] << 16) | (data[at + 2] << 8) | data[at + 3]) >>> 0;
  const bytesOf = (value) => [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];

  function chunks(data) {
    const found = [];
    for (let at = 8; at + 12 <= data.length;) {
      const length = number(data, at),
        name = String.fromCharCode(...data.subarray(at + 4, at + 8));
      if (at + 12 + length > data.length) throw damaged("this PNG ends too early");
      found.push({ name, data: data.subarray(at + 8, at + 8 + length) });
      at += 12 + length;
    }
    return found;
  }

  function paeth(a, b, c) {
    const p = a + b - c,
      x = Math.abs(p - a),
      y = Math.abs(p - b),
      z = Math.abs(p - c);
    return x <= y && x <= z ? a : y <= z ? b : c;
  }

  /* What a filter predicts from the bytes to the left, above, and above left. */
  const PREDICT = [() => 0, (a) => a, (a, b) => b, (a, b) => (a + b) >> 1, paeth];

  /* Undo the filters of rows of `wide` bytes, with `step` bytes from pixel to pixel. */
  function unfiltered(packed, height, wide, step) {
    const out = new Uint8Array(height * wide);
    if (packed.length !== height * (wide + 1)) throw damaged("this PNG has the wrong number of rows");
    for (let y = 0, from = 0, to = 0; y < height; y++) {
      const predict = PREDICT[packed[from++]];
      if (!predict) throw damaged("this PNG has an unknown filter");
      for (let i = 0; i < wide; i++, to++) {
        const a = i >= step ? out[to - step] : 0,
          b = y ? out[to - wide] : 0,
          c = y && i >= step ? out[to - wide - step] : 0;
        out[to] = packed[from++] + predict(a, b, c);
      }
    }
    return out;
  }

  /* {planes, height, width, samples (planes, height, width)} of a PNG of 8 bits; null where the browser has to read it:
     interlaced, of few bits, or with a transparent colour.  Raises for 16 bits, which the models here do not code. */
  function readPng(data) {
    const all = chunks(data),
      head = all.find(({ name }) => name === "IHDR");
    if (!head || head.data.length !== 13) throw damaged("this PNG has no header");
    const width = number(head.data, 0),
      height = number(head.data, 4),
      [depth, type, , , interlaced] = head.data.subarray(8);
    if (width * height > MOST) throw new Refusal(`This PNG has ${width} × ${height} pixels, too many for this page.`);
    if (depth === 16) throw new Refusal("This PNG has 16 bits a sample; the models of this page code 8.");
    if (!(type in PLANES)) throw damaged("this PNG has an unknown kind of colour");
    if (depth !== 8 || interlaced || all.some(({ name }) => name === "tRNS")) return null;
    const step = PLANES[type],
      packed = join(all.filter(({ name }) => name === "IDAT").map((chunk) => chunk.data));
    const rows = unfiltered(inflate(packed.subarray(2, -4), height * (width * step + 1)), height, width * step, step);
    const palette = type === 3 && (all.find(({ name }) => name === "PLTE") || { data: [] }).data;
    const planes = palette ? 3 : step,
      area = width * height,
      samples = new Uint8Array(planes * area);
    for (let i = 0; i < area; i++)
      for (let c = 0; c < planes; c++) samples[c * area + i] = palette ? palette[3 * rows[i] + c] : rows[step * i + c];
    return { planes, height, width, samples };
  }

  /* Rows of bytes, each behind the filter whose differences are smallest. */
  function filtered(rows, height, wide, step) {
    const out = new Uint8Array(height * (wide + 1)),
      tried = PREDICT.map(() => new Uint8Array(wide));
    for (let y = 0, at = 0; y < height; y++, at += wide + 1) {
      const sums = PREDICT.map((predict, k) => {
        let sum = 0;
        for (let i = 0, from = y * wide; i < wide; i++, from++) {
          const a = i >= step ? rows[from - step] : 0,
            b = y ? rows[from - wide] : 0,
            c = y && i >= step ? rows[from - wide - step] : 0;
          tried[k][i] = rows[from] - predict(a, b, c);
          sum += tried[k][i] < 128 ? tried[k][i] : 256 - tried[k][i];
        }
        return sum;
      });
      const best = sums.indexOf(Math.min(...sums));
      out[at] = best;
      out.set(tried[best], at + 1);
    }
    return out;
  }

  function adler(data) {
    let a = 1,
      b = 0;
    for (let i = 0; i < data.length; i++) ((a = (a + data[i]) % 65521), (b = (b + a) % 65521));
    return ((b << 16) | a) >>> 0;
  }

  /* A zlib stream: by the browser where it can, else of stored blocks. */
  async function zlib(data) {
    if (typeof CompressionStream === "undefined") return join([[0x78, 1], store(data), bytesOf(adler(data))]);
    const stream = new Blob([data]).stream().pipeThrough(new CompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  const chunk = (name, data) => {
    const body = join([text(name), data]);
    return join([bytesOf(data.length), body, bytesOf(crc32(body))]);
  };

  /* The PNG of samples (planes, height, width) of 1 to 4 planes; size: bytes of a sample. */
  async function writePng({ planes, height, width, size, samples }) {
    const area = height * width,
      step = planes * size,
      rows = new Uint8Array(area * step);
    for (let c = 0; c < planes; c++)
      for (let i = 0; i < area; i++) {
        const sample = samples[c * area + i],
          at = i * step + c * size;
        if (size === 2) ((rows[at] = sample >> 8), (rows[at + 1] = sample));
        else rows[at] = sample;
      }
    const head = [...bytesOf(width), ...bytesOf(height), 8 * size, [0, 4, 2, 6][planes - 1], 0, 0, 0];
    const packed = await zlib(filtered(rows, height, width * step, step));
    return join([
      SIGNATURE,
      chunk("IHDR", Uint8Array.from(head)),
      chunk("IDAT", packed),
      chunk("IEND", new Uint8Array(0)),
    ]);
  }

  Object.assign(ardm, { isPng, readPng, writePng });
});
