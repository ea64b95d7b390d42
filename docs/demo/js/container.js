/* The file format (docs/format.md): headers and forms, and frames of one picture, read and written. */
"use strict";

ARDM.define(function (ardm) {
  const { Refusal, damaged, Reader, varint, littleEndian, join, same, crc8, crc32, inflate } = ardm;
  const KINDS = ["bytes", "image", "audio", "array"];
  const NAMES = ["text or other bytes", "a picture", "a sound", "an array or a table"];
  const ORIGINS = ["", "png", "webp", "bmp", "tiff", "ppm", "wav", "flac", "npy", "aiff"];
  const CHECKS = [32, 16, 8, 0];
  const SIDES = [32, 28];
  const RUN = 0x98; // what the form of a run in short begins with
  const CALLS = 2 ** 20;
  const SITES = 2 ** 22;
  const PIXELS = 2 ** 24;
  const later = (what) =>
    new Refusal(`This file ${what}, which this page does not know: it may be of a later version.`);

  /* What other files begin with. */
  const FOREIGN = [
    ["a PNG picture", [0x89, 0x50, 0x4e, 0x47]],
    ["a JPEG picture", [0xff, 0xd8, 0xff]],
    ["a GIF picture", [0x47, 0x49, 0x46]],
    ["a WebP picture or a WAV sound", [0x52, 0x49, 0x46, 0x46]],
    ["a PDF", [0x25, 0x50, 0x44, 0x46]],
    ["a zip archive", [0x50, 0x4b, 3, 4]],
    ["a JPEG XL picture", [0xff, 0x0a]],
    ["an ardm file that was copied as text", [0xc2, 0xad]],
  ];

  /* --- forms -------------------------------------------------------------------------------------------------------- */

  /* kind to layout: as in docs/format.md.  planes, height, width; size: bytes of a sample; coded: whether a model codes
     some of it; span: of its regions, 0 for one; check: bits. */
  function readShort(file, flags) {
    if (flags & 128) return readRun(file, flags);
    const size = (flags >> 3) & 3;
    const sides = size < 2 ? [SIDES[size]] : Array.from({ length: size - 1 }, () => file.varint("header"));
    return {
      kind: "image",
      planes: flags & 1 ? 3 : 1,
      origin: ORIGINS[(flags >> 1) & 3],
      height: sides[0],
      width: sides[sides.length - 1],
      size: 1,
      about: false,
      coded: true,
      span: 0,
      check: CHECKS[(flags >> 5) & 3],
      layout: "",
      rate: 0,
    };
  }

  /* Bytes without an origin, or a row of an array. */
  function readRun(file, flags) {
    const width = file.varint("header"),
      row = flags & 4;
    return {
      kind: row ? "array" : "bytes",
      planes: 1,
      origin: row ? "npy" : "",
      height: 1,
      width,
      size: 1,
      about: false,
      coded: true,
      span: 0,
      check: CHECKS[(flags >> 5) & 3],
      layout: row ? `|u1 ${width} C` : "",
      rate: 0,
    };
  }

  function readFull(file, flags) {
    const check = flags & 64 ? 8 * file.byte("header") : 32;
    if (!CHECKS.includes(check)) throw later(`has checks of ${check} bits`);
    const kind = KINDS[flags & 3],
      byte = file.byte("header");
    if (byte >> 4 >= ORIGINS.length) throw later(`came in the format number ${byte >> 4}`);
    const layout = kind === "array" ? String.fromCharCode(...file.take(file.varint("header"), "header")) : "";
    const rate = kind === "audio" ? file.varint("header") : 0;
    const height = kind === "image" || kind === "array" ? file.varint("header") : 1;
    return {
      kind,
      planes: byte & 15,
      origin: ORIGINS[byte >> 4],
      height,
      width: file.varint("header"),
      size: flags & 16 ? 2 : 1,
      about: Boolean(flags & 4),
      coded: Boolean(flags & 8),
      span: flags & 32 ? file.byte("header") : 0,
      check,
      layout,
      rate,
    };
  }

  /* The bytes of a form in full. */
  function full(form) {
    const flags =
      128 | KINDS.indexOf(form.kind) | (form.about ? 4 : 0) | (form.coded ? 8 : 0) | (form.size === 2 ? 16 : 0);
    const split = form.span ? 32 : 0,
      odd = form.check < 32 ? 64 : 0;
    return join([
      [flags | split | odd],
      odd ? [form.check / 8] : [],
      [form.planes | (ORIGINS.indexOf(form.origin) << 4)],
      form.kind === "array" ? [...varint(form.layout.length), ...ardm.text(form.layout)] : [],
      form.kind === "audio" ? varint(form.rate) : [],
      form.kind === "image" || form.kind === "array" ? varint(form.height) : [],
      varint(form.width),
      split ? [form.span] : [],
    ]);
  }

  function isShort(form) {
    if (!form.coded || form.size > 1 || form.about || form.span) return false;
    if (form.kind === "image") return [1, 3].includes(form.planes) && ORIGINS.indexOf(form.origin) < 4;
    if (form.planes !== 1 || form.height !== 1) return false;
    return form.kind === "bytes"
      ? !form.origin
      : form.kind === "array" && form.origin === "npy" && form.layout === `|u1 ${form.width} C`;
  }

  function short(form) {
    if (form.kind !== "image") {
      const flags = RUN | (form.kind === "array" ? 4 : 0) | (CHECKS.indexOf(form.check) << 5);
      return join([[flags], varint(form.width)]);
    }
    const { height, width } = form,
      side = SIDES.indexOf(height);
    const size = height !== width ? 3 : side < 0 ? 2 : side;
    const number =
      (form.planes === 3) | (ORIGINS.indexOf(form.origin) << 1) | (size << 3) | (CHECKS.indexOf(form.check) << 5);
    return join([[number], size === 3 ? varint(height) : [], size >= 2 ? varint(width) : []]);
  }

  const isBrief = (flags) => !(flags & 128) || (flags & ~0x64) === RUN;
  const shortest = (form) => (isShort(form) ? short(form) : full(form));

  /* A form in the shortest way.  calls: it may stand in full although it could be short, because calls follow. */
  function readForm(file, calls = false) {
    const start = file.at,
      flags = file.byte("header"),
      brief = isBrief(flags),
      form = brief ? readShort(file, flags) : readFull(file, flags);
    if (!same(file.since(start), calls && !brief ? full(form) : shortest(form)))
      throw damaged("its header is not written in the shortest way");
    return form;
  }

  /* The regions of a form, as [y, x, height, width]. */
  function boxes({ height, width, span }) {
    if (!span) return [[0, 0, height, width]];
    const side = 2 ** span,
      tall = height > 1 ? side : 1,
      found = [];
    for (let y = 0; y < height; y += tall)
      for (let x = 0; x < width; x += side) found.push([y, x, Math.min(tall, height - y), Math.min(side, width - x)]);
    return found;
  }

  const kindOf = (form) => NAMES[KINDS.indexOf(form.kind)];

  function refuseForm(form) {
    const { height, width, planes, span } = form;
    if (form.kind !== "image")
      throw new Refusal(`This file holds ${kindOf(form)}; this page shows pictures. ardm decompress restores it.`);
    if (height * width > PIXELS)
      throw new Refusal(
        `This file claims a picture of ${width} × ${height} pixels; this page decodes at most ${PIXELS}.`,
      );
    if (!planes || !height || !width) throw damaged("its header claims a picture without pixels");
    if (span && (span < 5 || span > 40 || boxes(form).length < 2))
      throw damaged("its header cuts it into impossible regions");
    const side = 2 ** span,
      sites = span ? Math.min(side, height) * Math.min(side, width) : height * width;
    if (form.coded && sites > SITES) throw damaged(`its header claims a region of ${sites} pixels`);
  }

  /* --- frames ------------------------------------------------------------------------------------------------------- */

  const NO_STEPS = { calls: 0, starts: null, written: [] };

  /* The network calls of a header: {calls, starts, written}; written: as a check covers it. */
  function readSteps(file) {
    const calls = file.varint("header");
    if (calls < CALLS) return { calls, starts: null, written: varint(calls) };
    const count = calls - CALLS;
    if (count < 1 || count > 65536) throw damaged(`its schedule has ${count} network calls`);
    const distances = inflate(file.take(file.varint("schedule"), "schedule"), 9 * count);
    const inner = new Reader(distances),
      starts = [0];
    while (starts.length < count) starts.push(starts[starts.length - 1] + inner.varint("schedule"));
    if (inner.left || starts.some((t, k) => k && t === starts[k - 1])) throw damaged("its schedule is none");
    return { calls: count, starts, written: join([varint(calls), distances]) };
  }

  /* The header of a frame {form, model, steps}, or of an archive, whose form may be null: {…, items, named}. */
  function readHeader(file) {
    const [magic, type] = file.take(Math.min(2, file.left), "header");
    if (magic !== 0xad || ![0xd0, 0xa0].includes(type & 0xf0)) throw new Refusal(foreign(file.data));
    if ((type & 15) !== 1) throw later(`has format ${type & 15}`);
    const header = type === 0xa1 ? archiveHeader(file) : frameHeader(file);
    if (crc8(file.since(0)) !== file.byte("header")) throw damaged("the checksum of its header does not match");
    const { form, model, items } = header;
    if (type === 0xa1 && (!items || (form && form.coded !== Boolean(model))))
      throw damaged("the fields of its header contradict each other");
    return header;
  }

  const readModel = (file) => ardm.hex(file.take(2, "header"));

  function frameHeader(file) {
    const isFull = !isBrief(file.data[file.at]),
      form = readForm(file, true);
    const model = form.coded ? readModel(file) : "";
    if (!form.coded || !isFull) return { form, model, steps: { ...NO_STEPS, written: form.coded ? varint(0) : [] } };
    const steps = readSteps(file);
    if (isShort(form) && !steps.calls) throw damaged("its header is not written in the shortest way");
    return { form, model, steps };
  }

  function archiveHeader(file) {
    const flags = file.byte("header");
    if (flags & ~0x77) throw later("has other features");
    if (flags & (flags & 16 ? 2 : 0x60)) throw damaged("the fields of its header contradict each other");
    const items = file.varint("header"),
      form = flags & 1 ? readForm(file) : null,
      model = flags & 4 ? readModel(file) : "";
    return { form, model, steps: model ? readSteps(file) : NO_STEPS, items, named: Boolean(flags & 2), lines: Boolean(flags & 16) };
  }

  function foreign(data) {
    const kind = FOREIGN.find(([, first]) => same(first, data.subarray(0, first.length)));
    if (!data.length) return "This file is empty.";
    if (kind) return `This is ${kind[0]}, not an .ardm file. Drop it under Encode.`;
    return "This is not an .ardm file. If it is a bare one, which does not say what it is, ardm decompress --bare reads it.";
  }

  function readAbout(file) {
    const start = file.at,
      inner = new Reader(inflate(file.take(file.varint("about block"), "about block"), 2 ** 24));
    const entries = {};
    while (inner.left) {
      const name = String.fromCharCode(...inner.take(inner.varint("about block"), "about block"));
      if (!/^[a-z0-9-]{1,32}$/.test(name) || name in entries) throw damaged("its about block has an invalid name");
      entries[name] = inner.take(inner.varint("about block"), "about block");
    }
    return { block: file.since(start), entries };
  }

  function readLengths(file, count) {
    const least = file.varint("index of regions"),
      width = file.byte("index of regions");
    if (width > 62) throw damaged("its index of regions is impossible");
    const bits = file.take(Math.ceil((count * width) / 8), "index of regions");
    return Array.from({ length: count }, (_, k) => {
      let value = 0;
      for (let b = width - 1; b >= 0; b--)
        value = 2 * value + ((bits[(k * width + b) >> 3] >> ((k * width + b) & 7)) & 1);
      return least + value;
    });
  }

  /* A file of one picture: {form, model, steps, about, entries, pieces, check, item}.  pieces: [{box, file}], not decoded
     yet.  item: its number in an archive, else 0. */
  function readFrame(data) {
    const file = new Reader(data),
      header = readHeader(file);
    if (header.items) throw new Refusal("This file is an archive; ardm extract restores its items.");
    refuseForm(header.form);
    return readBody(file, header, header.form.about ? readAbout(file) : null, 0);
  }

  /* The same from where its body begins; about: its block and entries, or null. */
  function readBody(file, { form, model, steps }, about, item) {
    refuseForm(form);
    const { block, entries } = about || { block: new Uint8Array(0), entries: {} };
    const frame = { form, model, steps, about: block, entries, pieces: [], check: null, item };
    const areas = boxes(form);
    if (!form.span) frame.pieces.push({ box: areas[0], file: file.part(file.left, "piece") });
    else {
      if (areas.length > file.left) throw damaged("it ends within its index of regions");
      const start = file.at,
        lengths = readLengths(file, areas.length),
        crc = crc32(file.since(start));
      if (crc !== file.integer(4, "index of regions"))
        throw damaged("the checksum of its index of regions does not match");
      lengths.forEach((length, k) => frame.pieces.push({ box: areas[k], file: file.part(length, "piece") }));
      frame.check = file.integer(form.check / 8, "checksum");
      if (file.left) throw damaged("bytes follow its end");
    }
    return frame;
  }

  /* The bytes that the check of every region of a frame covers first.  identity: of the model, 32 bytes, or none. */
  function context({ form, steps, about, item }, identity, region) {
    const calls = form.coded ? steps.written : [];
    return [identity, full(form), calls, about, littleEndian(item, 8), littleEndian(region, 8)];
  }

  const lowBits = (crc, bits) => (bits === 32 ? crc : crc % 2 ** bits);

  /* A frame of one region whose piece is `head` (nothing if all of it is coded) and a stream or a check.
     identity: of the model, or none. */
  function writeFrame(form, identity, piece) {
    const start = form.coded
      ? join([isShort(form) ? short(form) : full(form), identity.subarray(0, 2), isShort(form) ? [] : varint(0)])
      : full(form);
    const header = join([[0xad, 0xd1], start]);
    return join([header, [crc8(header)], piece]);
  }

  Object.assign(ardm, { readFrame, writeFrame, context, lowBits });
  Object.assign(ardm, { readHeader, readForm, readAbout, readLengths, readBody, kindOf });
});
