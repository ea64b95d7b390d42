/* Archives (docs/format.md): what they hold, and any item as a frame of its own. */
"use strict";

ARDM.define(function (ardm) {
  const { Refusal, damaged, Reader, inflate, crc32 } = ardm;
  const { readHeader, readAbout, readForm, readLengths, readBody } = ardm;
  const DIRECTORY = 2 ** 26;
  const NAME = 4096;
  const ITEMS = 2 ** 20;
  const BAD_NAME = /[\x00-\x1f\x7f-\x9f\\\ufffd]|^[A-Za-z]:|(^|\/)\.{0,2}(\/|$)/;
  const PLAIN = { calls: 0, starts: null, written: [] };

  /* Names that each end in a zero byte, and what follows them. */
  function readNames(data, count) {
    const names = [];
    let at = 0;
    while (names.length < count) {
      const end = data.indexOf(0, at);
      if (end < 0) throw damaged("its directory has too few names");
      const name = new TextDecoder("utf-8", { ignoreBOM: true }).decode(data.subarray(at, end));
      if (end - at > NAME || BAD_NAME.test(name)) throw damaged("an item has an impossible name");
      (names.push(name), (at = end + 1));
    }
    if (new Set(names).size < count) throw damaged("two items have one name");
    return { names, at };
  }

  /* Names and forms of all items; each null if the header says that there are none. */
  function readDirectory(packed, { items, named, form, model }) {
    const data = inflate(new Reader(packed).take(packed.length, "directory"), DIRECTORY);
    const { names, at } = named ? readNames(data, items) : { names: null, at: 0 },
      file = new Reader(data, at);
    const forms = form ? null : Array.from({ length: items }, () => readForm(file));
    if (file.left) throw damaged("bytes follow its directory");
    if (forms && !model && forms.some(({ coded }) => coded)) throw damaged("it names no model for an item of a model");
    return { names, forms };
  }

  /* An archive: {length, names, forms}, and `item(k)` as `readFrame` has a file of one picture. */
  class Archive {
    constructor(data) {
      const file = new Reader(data),
        header = readHeader(file);
      if (!header.items) throw new Refusal("This file is no archive.");
      if (header.items > ITEMS)
        throw new Refusal(`This archive claims ${header.items} items; this page lists at most ${ITEMS}. ardm list shows them.`);
      Object.assign(this, { data, header, length: header.items, names: null, forms: null });
      this.about = header.form && header.form.about ? readAbout(file) : null;
      if (this.length > file.left) throw damaged("it ends within its index");
      const lengths = readLengths(file, this.length);
      const packed =
        header.named || !header.form ? file.take(file.varint("directory"), "directory") : null;
      const crc = crc32(file.since(0));
      if (crc !== file.integer(4, "index")) throw damaged("the checksum of its index does not match");
      if (packed) Object.assign(this, readDirectory(packed, header));
      if (new Set((this.forms || [header.form]).map(({ check }) => check)).size > 1)
        throw damaged("the checks of its items have different numbers of bits");
      if (header.lines && !(this.forms || [header.form]).every((form) => form.kind === "bytes" && !form.origin && !form.about))
        throw damaged("its items are not the lines of a text");
      let at = file.at;
      this.ends = lengths.map((length) => (at += length));
      this.first = file.at;
      if (lengths.some((length) => !length) || at !== data.length)
        throw damaged("its items are not as long as its index says");
    }

    form(k) {
      return this.forms ? this.forms[k] : this.header.form;
    }

    bytes(k) {
      return this.data.subarray(k ? this.ends[k - 1] : this.first, this.ends[k]);
    }

    /* What an item that is no file stands for: "folder", "link", or "". */
    entry(k) {
      const form = this.form(k);
      if (form.kind !== "bytes" || form.width || !form.about) return "";
      const { entries } = this.about || readAbout(new Reader(this.bytes(k)));
      return ["folder", "link"].find((name) => name in entries) || "";
    }

    item(k) {
      if (!(k >= 0 && k < this.length)) throw new Refusal(`This archive has ${this.length} items.`);
      const form = this.form(k),
        { model, steps } = this.header,
        file = new Reader(this.bytes(k));
      const about = form.about && this.forms ? readAbout(file) : this.about;
      return readBody(file, form.coded ? { form, model, steps } : { form, model: "", steps: PLAIN }, about, k);
    }
  }

  /* Whether a file begins like an archive of any version. */
  const isArchive = (data) => data[0] === 0xad && (data[1] & 0xf0) === 0xa0;

  Object.assign(ardm, { Archive, isArchive });
});
