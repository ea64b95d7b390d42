/* Pictures in and out of frames: pieces, their parts, filters and checks. */
"use strict";

ARDM.define(function (ardm) {
  const { Refusal, damaged, Reader, Decoder, Encoder, WaveWalk, OrderWalk } = ardm;
  const { inflate, unlzma, crc32, context, lowBits, join, littleEndian, writeFrame, varint } = ardm;
  const METHODS = ["coded", "raw", "deflate", "constant", "lzma", "filtered", "flac"];

  const WHOLE = 2 ** 17; // pixels that an any-order model takes at once: its maps have a gigabyte then

  /* The planes of the parts of a region: with a model of M planes, groups of M, then one by one. */
  function partsOf(planes, M) {
    const parts = [];
    for (let first = 0; first < planes;) {
      const count = !M ? planes : planes - first >= M ? M : 1;
      parts.push({ first, count });
      first += count;
    }
    return parts;
  }

  /* --- stored parts ----------------------------------------------------------------------------------------------------- */

  function unfilter(code, samples, before, h, w, mask) {
    const kind = code & 7;
    if (kind > 4 || (code & 8 && !before)) throw damaged("one of its filters is unknown");
    for (let pass = 0; pass < (kind === 4 ? 2 : 1); pass++)
      for (let y = 0, i = 0; y < h; y++)
        for (let x = 0; x < w; x++, i++) {
          const left = x ? samples[i - 1] : 0,
            up = y ? samples[i - w] : 0,
            corner = x && y ? samples[i - w - 1] : 0;
          const across = x ? left : up,
            down = y ? up : left;
          samples[i] = (samples[i] + [0, across, down, left + up - corner, across][kind]) & mask;
        }
    if (code & 8) for (let i = 0; i < samples.length; i++) samples[i] = (samples[i] + before[i]) & mask;
  }

  function filtered(file, planes, h, w, size) {
    const codes = file.take(planes, "filters"),
      area = h * w,
      mask = size === 2 ? 65535 : 255;
    const packed = unlzma(file.take(file.varint("stored part"), "stored part"), planes * area * size),
      found = [];
    for (let c = 0; c < planes; c++) {
      const samples = new Int32Array(area),
        from = c * area * size;
      for (let i = 0; i < area; i++) {
        const n = packed[from + i] | (size === 2 ? packed[from + area + i] << 8 : 0);
        samples[i] = (n & 1 ? -((n + 1) >> 1) : n >> 1) & mask;
      }
      unfilter(codes[c], samples, found[c - 1], h, w, mask);
      found.push(samples);
    }
    return found;
  }

  /* The samples of a stored part, one array a plane. */
  function stored(method, file, planes, h, w, size) {
    const area = h * w,
      bytes = planes * area * size,
      what = "stored part";
    if (method === "filtered") return filtered(file, planes, h, w, size);
    let raw;
    if (method === "raw") raw = file.take(bytes, what);
    else if (method === "deflate") raw = inflate(file.take(file.varint(what), what), bytes);
    else if (method === "lzma") {
      const distance = file.byte(what);
      raw = unlzma(file.take(file.varint(what), what), bytes);
      for (let i = distance; distance && i < bytes; i++) raw[i] += raw[i - distance];
    } else if (method === "constant") {
      return Array.from({ length: planes }, () => new Int32Array(area).fill(file.integer(size, what)));
    } else
      throw new Refusal(`This file is stored by the method ${method}, which this page does not read for pictures.`);
    if (raw.length !== bytes) throw damaged("a stored part has the wrong length");
    const at = (i) => (size === 2 ? raw[2 * i] | (raw[2 * i + 1] << 8) : raw[i]);
    return Array.from({ length: planes }, (_, c) => Int32Array.from({ length: area }, (_, i) => at(c * area + i)));
  }

  /* The methods of a piece, for each part; the file moves to the payloads. */
  function methodsOf(file, form, count) {
    if (form.coded && file.left && file.data[file.at] !== 0) return new Array(count).fill("coded");
    if (form.coded) file.byte("piece");
    let number = file.varint("piece");
    const methods = Array.from({ length: count }, () => {
      const method = number % 16;
      number = Math.floor(number / 16);
      if (!METHODS[method])
        throw new Refusal(`Part of this file is stored by method ${method}: it may be of a later version.`);
      return METHODS[method];
    });
    if (number || methods.every((m) => m === "coded") || (!form.coded && methods[0] === "coded"))
      throw damaged("the methods of a piece contradict its header");
    return methods;
  }

  /* A walk over a part by the model of a file. */
  function walkOf(model, steps, height, width) {
    if (model.wave && steps.calls) throw damaged(`its model codes along wavefronts, and not in ${steps.calls} calls`);
    if (model.wave) return new WaveWalk(model, height, width);
    if (height * width > WHOLE)
      throw new Refusal(
        `This picture of ${width} × ${height} pixels is too large for an any-order model in a browser.`,
      );
    return new OrderWalk(model, height, width, steps);
  }

  const channelsOf = (model, count) =>
    count === model.channels ? Array.from({ length: count }, (_, c) => c) : [model.lead];

  /* --- decoding --------------------------------------------------------------------------------------------------------- */

  /* A picture being decoded, from its frame.  samples (planes, height, width); known (height · width): 1 where a pixel is decoded. */
  class Decoding {
    /* find: from the first two bytes of an identity, in hex, to a model, or nothing. */
    constructor(frame, find) {
      this.frame = frame;
      const { form, model, steps } = this.frame;
      this.model = form.coded ? find(model) : null;
      if (form.coded && !this.model)
        throw new Refusal(
          `This file needs the model ${model}, which this page does not have. ardm decompress -m FOLDER reads it with yours.`,
        );
      if (form.coded && form.height * form.width * form.planes * Math.max(1, steps.calls) > 2 ** 34)
        throw new Refusal(
          `This file claims ${steps.calls} network calls for ${form.width} × ${form.height} pixels, too much for a page.`,
        );
      this.samples = new Uint16Array(form.planes * form.height * form.width);
      this.known = new Uint8Array(form.height * form.width);
      this.done = 0;
      this.work = this.decode();
    }

    get total() {
      return this.known.length;
    }

    /* Decode until `enough()`; whether something is left. */
    run(enough) {
      this.enough = enough;
      return !this.work.next().done;
    }

    *decode() {
      const { form, pieces, check } = this.frame;
      for (let region = 0; region < pieces.length; region++) yield* this.region(region, pieces[region]);
      if (check === null || !form.check) return;
      if (check !== lowBits(crc32(this.bytes([0, 0, form.height, form.width])), form.check))
        throw damaged("the checksum of all its samples does not match");
    }

    *region(region, { box, file }) {
      const { form } = this.frame,
        { model } = this;
      const parts = partsOf(form.planes, model ? model.channels : 0),
        start = file.at,
        methods = methodsOf(file, form, parts.length);
      parts.forEach(({ first, count }, k) => {
        if (methods[k] === "coded") return;
        stored(methods[k], file, count, box[2], box[3], form.size).forEach((plane, c) =>
          this.write(first + c, box, plane),
        );
      });
      const head = file.data.subarray(start, file.at),
        before = context(this.frame, model ? model.identity : [], region);
      const rest = file.take(file.left, "piece");
      let found = new Reader(rest).integer(Math.min(rest.length, form.check / 8), "checksum");
      if (!methods.includes("coded")) {
        if (rest.length !== form.check / 8) throw damaged("a piece has the wrong length");
        this.reveal(box, (i) => i);
      } else {
        const source = new Decoder(rest);
        for (let k = 0; k < parts.length; k++) if (methods[k] === "coded") yield* this.part(parts[k], box, source);
        found = source.close(form.check);
      }
      if (found !== lowBits(crc32(...before, head, this.bytes(box)), form.check))
        throw damaged("the checksum of its samples does not match");
      yield;
    }

    *part({ first, count }, box, source) {
      const [, , h, w] = box,
        walk = walkOf(this.model, this.frame.steps, h, w),
        channels = channelsOf(this.model, count);
      for (let left = true; left;) {
        left = walk.decode(source, channels, () => this.enough());
        channels.forEach((channel, c) => {
          this.write(first + c, box, walk.values.subarray(channel * h * w, (channel + 1) * h * w));
        });
        if (first === 0) this.reveal(box, (i) => (walk.knows(i) ? i : -1));
        if (left) yield;
      }
    }

    write(plane, [top, left, h, w], samples) {
      const { width, height } = this.frame.form;
      for (let y = 0; y < h; y++)
        this.samples.set(samples.subarray(y * w, (y + 1) * w), (plane * height + top + y) * width + left);
    }

    reveal([top, left, h, w], which) {
      const { width } = this.frame.form;
      for (let i = 0; i < h * w; i++) {
        const at = (top + Math.floor(i / w)) * width + left + (i % w);
        if (which(i) >= 0 && !this.known[at]) ((this.known[at] = 1), this.done++);
      }
    }

    /* The samples of a region as a file has them. */
    bytes([top, left, h, w]) {
      const {
          form: { planes, height, width, size },
        } = this.frame,
        out = new Uint8Array(planes * h * w * size);
      let at = 0;
      for (let c = 0; c < planes; c++)
        for (let y = 0; y < h; y++)
          for (let x = 0; x < w; x++) {
            const sample = this.samples[(c * height + top + y) * width + left + x];
            out[at++] = sample;
            if (size === 2) out[at++] = sample >> 8;
          }
      return out;
    }

    /* RGBA of 8 bits, for the screen; transparent where nothing is known yet. */
    pixels() {
      const {
          form: { planes, size },
        } = this.frame,
        area = this.known.length,
        out = new Uint8ClampedArray(4 * area);
      const shift = size === 2 ? 8 : 0,
        colours = planes >= 3 ? 3 : 1,
        alpha = planes === 2 || planes === 4;
      for (let i = 0; i < area; i++) {
        if (!this.known[i]) continue;
        for (let c = 0; c < 3; c++) out[4 * i + c] = this.samples[(colours === 3 ? c : 0) * area + i] >> shift;
        out[4 * i + 3] = alpha ? this.samples[(planes - 1) * area + i] >> shift : 255;
      }
      return out;
    }
  }

  /* --- encoding --------------------------------------------------------------------------------------------------------- */

  /* A picture being encoded by a model along wavefronts, in one region.  picture: {planes, height, width, samples}. */
  class Encoding {
    constructor(picture, model, check = 32) {
      const { planes, height, width } = picture;
      if (height * width > 2 ** 22)
        throw new Refusal(`This picture has ${width} × ${height} pixels; the model codes at most 4 million at once.`);
      Object.assign(this, { picture, model, done: 0, file: null });
      this.form = {
        kind: "image",
        planes,
        height,
        width,
        origin: "png",
        size: 1,
        about: false,
        coded: true,
        span: 0,
        check,
        layout: "",
        rate: 0,
      };
      this.work = this.encode();
    }

    get total() {
      return this.picture.height * this.picture.width * partsOf(this.picture.planes, this.model.channels).length;
    }

    run(enough) {
      this.enough = enough;
      return !this.work.next().done;
    }

    plane(c) {
      const { samples, height, width } = this.picture;
      return samples.subarray(c * height * width, (c + 1) * height * width);
    }

    *encode() {
      const { model, form } = this,
        parts = partsOf(form.planes, model.channels),
        encoder = new Encoder(1 << 16);
      const methods = [],
        payloads = [];
      for (const part of parts) {
        const planes = Array.from({ length: part.count }, (_, c) => this.plane(part.first + c));
        if (planes.every((plane) => plane.every((sample) => sample === plane[0]))) {
          (methods.push("constant"), payloads.push(planes.map((plane) => plane[0])));
          continue;
        }
        const marked = encoder.count,
          before = encoder.bits;
        yield* this.part(planes, encoder);
        if (encoder.bits - before < 8 * planes.length * planes[0].length) methods.push("coded");
        else ((encoder.count = marked), (encoder.bits = before), methods.push("raw"), payloads.push(...planes));
      }
      this.file = this.finish(encoder, methods, payloads);
    }

    *part(planes, encoder) {
      const { height, width } = this.picture,
        { model } = this,
        walk = new WaveWalk(model, height, width);
      const channels = channelsOf(model, planes.length),
        from = this.done;
      for (let c = 0; c < model.channels; c++) walk.values.set(planes[planes.length > 1 ? c : 0], c * height * width);
      for (let left = true; left;) {
        left = walk.encode(encoder, channels, () => this.enough());
        this.done = from + walk.passed;
        if (left) yield;
      }
    }

    /* The frame of parts that are coded or stored. */
    finish(encoder, methods, payloads) {
      const { model, picture } = this,
        coded = methods.includes("coded"),
        form = { ...this.form, coded };
      const number = methods.reduceRight((all, method) => all * 16 + METHODS.indexOf(method), 0);
      if (!coded) return this.stored();
      const head = payloads.length ? join([[0], varint(number), ...payloads]) : [];
      const crc = crc32(...context({ form, steps: { written: varint(0) }, about: [], item: 0 }, model.identity, 0), head, picture.samples);
      return writeFrame(form, model.identity, join([head, encoder.finish(lowBits(crc, form.check), form.check)]));
    }

    /* A frame without the model: all planes constant, or as they are. */
    stored() {
      const { picture } = this,
        form = { ...this.form, coded: false },
        planes = Array.from({ length: form.planes }, (_, c) => this.plane(c));
      const constant = planes.every((plane) => plane.every((sample) => sample === plane[0]));
      const head = join([
        [METHODS.indexOf(constant ? "constant" : "raw")],
        constant ? planes.map((p) => p[0]) : picture.samples,
      ]);
      const crc = crc32(...context({ form, about: [], item: 0 }, [], 0), head, picture.samples);
      return writeFrame(form, [], join([head, littleEndian(lowBits(crc, form.check), form.check / 8)]));
    }
  }

  Object.assign(ardm, { Decoding, Encoding });
});
