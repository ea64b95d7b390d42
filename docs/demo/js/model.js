/* The file of a model (docs/exact.md): its program with tensors and ranges, its identity, its orders. */
"use strict";

ARDM.define(function (ardm) {
  const { Refusal, Reader, Sha256, littleEndian, text } = ardm;
  const ARRAYS = { I8: Int8Array, I16: Int16Array, I32: Int32Array, I64: BigInt64Array };

  const numbers = (integers) =>
    integers instanceof BigInt64Array ? Float64Array.from(integers, Number) : new Float64Array(integers);

  /* name → {shape, data: Float64Array} and the metadata of a safetensors file. */
  function safetensors(bytes) {
    const file = new Reader(bytes),
      header = JSON.parse(new TextDecoder().decode(file.take(file.integer(8), "header")));
    const { __metadata__: about, ...entries } = header,
      tensors = {};
    for (const [
      name,
      {
        dtype,
        shape,
        data_offsets: [first, last],
      },
    ] of Object.entries(entries)) {
      const raw = bytes.slice(file.at + first, file.at + last).buffer;
      tensors[name] = { shape, data: numbers(new ARRAYS[dtype](raw)) };
    }
    return { about, tensors };
  }

  /* The numbers as int64, little-endian. */
  function wide(data) {
    const out = new DataView(new ArrayBuffer(8 * data.length));
    for (let i = 0; i < data.length; i++) {
      const x = data[i],
        small = x === (x | 0);
      out.setInt32(8 * i, small ? x : Number(BigInt.asIntN(32, BigInt(x))), true);
      out.setInt32(8 * i + 4, small ? -(x < 0) : Math.floor(x / 2 ** 32), true);
    }
    return new Uint8Array(out.buffer);
  }

  /* `content` as JSON with sorted keys, no spaces and all non-ASCII characters escaped. */
  function canonical(value) {
    if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
    if (value === null || typeof value !== "object") {
      const escaped = (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0");
      return JSON.stringify(value).replace(/[\u007f-\uffff]/g, escaped);
    }
    const entries = Object.keys(value)
      .sort()
      .map((key) => `${canonical(key)}:${canonical(value[key])}`);
    return `{${entries.join(",")}}`;
  }

  function identityOf(content, tensors) {
    const written = text(canonical(content)),
      sha = new Sha256().add(littleEndian(written.length, 8)).add(written);
    for (const name of Object.keys(tensors).sort()) {
      const { shape, data } = tensors[name];
      sha.add(text(`${name}:${shape.join(",")};`)).add(wide(data));
    }
    return sha.digest();
  }

  /* A model: what `content` says, its operations with their tensors, and the tensors beside the program. */
  class Model {
    constructor(bytes) {
      const { about, tensors } = safetensors(bytes),
        content = JSON.parse(about.content),
        { program } = content;
      this.tensors = tensors;
      this.content = content;
      this.golden = about.golden;
      this.name = JSON.parse(about.card || "{}").name || "unnamed";
      Object.assign(this, { channels: program.channels, classes: program.classes, base: program.base });
      Object.assign(this, { wave: program.wave || 0, size: program.size, lead: content.lead, calls: content.default });
      if (this.base < this.classes)
        throw new Refusal(`Model ${this.name} writes values with several digits, which this page does not.`);
      this.ops = program.ops.map((op) => ({
        name: op.op,
        out: op.out,
        inputs: op.in,
        n: op.integers,
        t: Object.fromEntries(Object.entries(op.tensors).map(([role, name]) => [role, tensors[`program.${name}`]])),
      }));
      this.head = this.ops.pop();
    }

    /* SHA-256 of everything that affects a frequency, 32 bytes. */
    get identity() {
      return (this.known ||= identityOf(this.content, this.tensors));
    }

    /* Where the calls of a schedule of this number begin. */
    starts(calls) {
      const held = this.tensors[`schedule.${calls}`];
      return held ? Array.from(held.data) : null;
    }
  }

  Object.assign(ardm, { Model });
});
