"""What the values of a text stand for: bytes, letters, characters or the tokens of a tokenizer, and perhaps its end.

Every kind is lossless: `decode(encode(data)) == data`, or `encode` refuses the data and says why.  With an end, the last value
ends a text and fills what is behind it.  No PyTorch.
"""

from __future__ import annotations

import codecs
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ardm.errors import ArdmError, out_of_memory

Ints: TypeAlias = NDArray[np.int64]

BYTES = bytes(range(256))
LETTERS = b" abcdefghijklmnopqrstuvwxyz"
"""The 27 letters of text8, in the order of their values."""
TOKENIZER = "tokenizer.json"
"""The ending of the file of a tokenizer, and its name in the folder of a model."""
VOCABULARY = 4096
"""Tokens that are learnt from a text, at most; `Tokens.of`."""


@dataclass(frozen=True)
class Symbols(ABC):
    """The K values of a text.

    end: whether the last value, K − 1, ends a text.  tokenizer: of tokens, the text of their tokenizer.json.
    """

    end: bool = False
    tokenizer: str = field(default="", kw_only=True)

    @property
    @abstractmethod
    def unit(self) -> str:
        """What a value is called: byte, letter, character or token."""

    @property
    def classes(self) -> int:
        """K."""
        return self._own + self.end

    @property
    @abstractmethod
    def _own(self) -> int:
        """The number of values but for the end."""

    @abstractmethod
    def encode(self, data: bytes, source: str = "the text") -> tuple[Ints, Ints]:
        """The values (n,) of a text without its end, and how many bytes of it belong to each.

        Raises ArdmError, naming the source, for a text that they cannot write.
        """

    @abstractmethod
    def _bytes(self, values: Ints) -> bytes:
        """The text of values, none of which is the end."""

    def decode(self, values: Iterable[int]) -> bytes:
        """The text of values, up to their first end.  Raises ArdmError for a value that is none."""
        found = np.fromiter(values, dtype=np.int64)
        if found.size and not 0 <= found.min() <= found.max() < self.classes:
            raise ArdmError(f"values of this text lie in 0..{self.classes - 1}; got {found.min()}..{found.max()}")
        return self._bytes(found[: length_of(found, self.classes - 1)] if self.end else found)

    def text(self, values: Iterable[int]) -> str:
        """The same as a string.

        Characters cut off at both ends of an item are left out; other bytes that are not UTF-8 become U+FFFD.
        """
        data = self.decode(values)
        first = next((i for i, byte in enumerate(data) if byte & 0xC0 != 0x80), len(data))  # where a character begins
        return codecs.getincrementaldecoder("utf-8")("replace").decode(data[first if first < 4 else 0 :])

    def item(self, text: str | bytes, length: int) -> list[int]:
        """A text as the values of an item of `length`.  Raises ArdmError for a text that does not fit."""
        values = self.encode(text.encode() if isinstance(text, str) else text)[0].tolist()
        if len(values) > length or (len(values) < length and not self.end):
            other = "at most" if self.end else "exactly"
            raise ArdmError(f"an item has {other} {length} {self.unit}s; the text has {len(values)}: {text[:40]!r}")
        return values + [self.classes - 1] * (length - len(values))

    @property
    def is_named(self) -> bool:
        """Whether a text of so many classes could be written in other symbols, so that it has to say which."""
        return self.end

    @abstractmethod
    def to_values(self) -> dict[str, Any]:
        """JSON values, which `of_values` turns back into these symbols."""


def length_of(values: Ints, end: int) -> int:
    """The number of values before the first end."""
    found = np.flatnonzero(values == end)
    return int(found[0]) if found.size else len(values)


@dataclass(frozen=True)
class Letters(Symbols):
    """Bytes, or those of them that an alphabet holds."""

    alphabet: bytes = BYTES

    @property
    def unit(self) -> str:
        """A byte, or a letter."""
        return "byte" if self.alphabet == BYTES else "letter"

    @property
    def _own(self) -> int:
        return len(self.alphabet)

    def encode(self, data: bytes, source: str = "the text") -> tuple[Ints, Ints]:
        """One value for each byte."""
        raw = np.frombuffer(data, np.uint8)
        table = np.full(256, -1)
        table[np.frombuffer(self.alphabet, np.uint8)] = np.arange(len(self.alphabet))
        values: Ints = table[raw]
        if len(values) and values.min() < 0:
            at = int(values.argmin())
            known = "a..z nor a space; use alphabet=bytes, or" if self.alphabet == LETTERS else f"of {self.alphabet!r};"
            neither = "neither" if self.alphabet == LETTERS else "none"
            raise ArdmError(
                f"{source}: byte {raw[at]} ({data[at : at + 1]!r}) at position {at} is {neither} {known} clean the text (these "
                f"are {len(self.alphabet)} letters)"
            )
        return values, np.ones_like(values)

    def _bytes(self, values: Ints) -> bytes:
        return np.frombuffer(self.alphabet, np.uint8)[values].tobytes()

    def to_values(self) -> dict[str, Any]:
        """The kind is "bytes", "27", or "letters" with their alphabet."""
        if self.alphabet not in (BYTES, LETTERS):
            return {"kind": "letters", "alphabet": self.alphabet.decode("latin-1"), "end": self.end}
        return {"kind": "bytes" if self.alphabet == BYTES else "27", "end": self.end}


@dataclass(frozen=True)
class Characters(Symbols):
    """The characters of a training text in UTF-8, and then the 256 bytes, by which all other text is written.

    characters: distinct, one for each of the first values.
    """

    characters: str = ""

    is_named = True

    @property
    def unit(self) -> str:
        """A character; also for the bytes of others."""
        return "character"

    @classmethod
    def of(cls, data: bytes, end: bool = False) -> Characters:
        """The characters of a text, by code point; bytes that are not UTF-8 are left to the 256 bytes."""
        text = data.decode("utf-8", "surrogateescape")
        return cls(end, "".join(sorted(c for c in set(text) if not "\ud800" <= c <= "\udfff")))

    @property
    def _own(self) -> int:
        return len(self.characters) + 256

    @cached_property
    def _value(self) -> dict[str, int]:
        return {character: n for n, character in enumerate(self.characters)}

    @cached_property
    def _pieces(self) -> list[bytes]:
        return [c.encode() for c in self.characters] + [bytes([byte]) for byte in BYTES]

    def encode(self, data: bytes, source: str = "the text") -> tuple[Ints, Ints]:
        """One value for each character; a character that is not known, and what is not UTF-8, is written in bytes."""
        found, n = list[int](), len(self.characters)
        for character in data.decode("utf-8", "surrogateescape"):
            known = self._value.get(character)
            if known is None:
                found += [n + byte for byte in character.encode("utf-8", "surrogateescape")]
            else:
                found.append(known)
        values = np.array(found, dtype=np.int64)
        sizes = np.array([len(piece) for piece in self._pieces], dtype=np.int64)
        return values, sizes[values]

    def _bytes(self, values: Ints) -> bytes:
        return b"".join(self._pieces[value] for value in values.tolist())

    def to_values(self) -> dict[str, Any]:
        """The kind is "characters"."""
        return {"kind": "characters", "characters": self.characters, "end": self.end}


@dataclass(frozen=True)
class Tokens(Symbols):
    """The tokens of a tokenizer of Hugging Face; needs the package tokenizers.

    tokenizer: is kept in the folder of a model.
    Raises ArdmError where this is no tokenizer, or tokenizers is not installed.
    """

    def __post_init__(self) -> None:
        self._made  # noqa: B018 (refuses what is no tokenizer)

    is_named = True

    @classmethod
    def of(cls, data: bytes, end: bool = False) -> Tokens:
        """Byte pairs merged until `VOCABULARY` tokens are there, or no pair is left that occurs twice (Sennrich et al. 2016).

        Words keep the space in front of them, and every byte has a token, so that all UTF-8 comes back.
        Raises ArdmError for a text that is not UTF-8, or if tokenizers is not installed.
        """
        tokenizers, text = _tokenizers(), _decoded(data, "the training text")
        made = tokenizers.Tokenizer(tokenizers.models.BPE())
        made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=VOCABULARY, min_frequency=2, show_progress=False,
            initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        )  # fmt: skip
        made.train_from_iterator([text], trainer)
        return cls(end, tokenizer=made.to_str())

    @property
    def unit(self) -> str:
        """A token."""
        return "token"

    @cached_property
    def _made(self) -> Any:
        package = _tokenizers()
        try:
            made = package.Tokenizer.from_str(self.tokenizer)
        except Exception as error:  # it raises Exception itself
            if out_of_memory(error):
                raise
            raise ArdmError(f"this is not a tokenizer.json: {str(error).splitlines()[0]:.200}") from None
        made.no_padding()
        made.no_truncation()
        return made

    @property
    def sha256(self) -> str:
        """Of the text of the tokenizer."""
        return hashlib.sha256(self.tokenizer.encode()).hexdigest()

    @property
    def _own(self) -> int:
        return 1 + max(self._made.get_vocab(with_added_tokens=True).values())

    def encode(self, data: bytes, source: str = "the text") -> tuple[Ints, Ints]:
        """Tokens without special ones; a character that several tokens share belongs to the first of them."""
        text, made = _decoded(data, source), self._made
        found = made.encode(text, add_special_tokens=False)
        again = made.decode(found.ids, skip_special_tokens=False)
        if again != text:
            at = next(
                (i for i, (a, b) in enumerate(zip(text, again, strict=False)) if a != b), min(len(text), len(again))
            )
            raise ArdmError(
                f"{source}: the tokenizer does not keep it: character {at} is in {text[max(at - 8, 0) : at + 8]!r}, and comes back "
                f"as {again[max(at - 8, 0) : at + 8]!r}; use a byte-level tokenizer without normalisation"
            )
        ends = np.cumsum([0, *(len(character.encode()) for character in text)])
        reach = np.maximum.accumulate([0, *(stop for _, stop in found.offsets)])
        reach[-1] = len(text)
        return np.array(found.ids, dtype=np.int64), np.diff(ends[reach])

    def _bytes(self, values: Ints) -> bytes:
        return str(self._made.decode(values.tolist(), skip_special_tokens=False)).encode()

    def to_values(self) -> dict[str, Any]:
        """The kind is "tokens"; the tokenizer itself is not among them, but its hash."""
        return {"kind": "tokens", "sha256": self.sha256, "end": self.end}


def _tokenizers() -> Any:
    """The package."""
    try:
        import tokenizers
    except ImportError:
        raise ArdmError("text by tokens needs the package tokenizers: pip install tokenizers") from None
    return tokenizers


def _decoded(data: bytes, source: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ArdmError(
            f"{source} is not UTF-8: byte {data[error.start]} at position {error.start}; use alphabet=bytes"
        ) from None


def of_values(values: Mapping[str, Any], tokenizer: str = "") -> Symbols:
    """The symbols of JSON values.  tokenizer: the text of a tokenizer.json, for tokens.  Raises ArdmError for anything else."""
    kind, end = values.get("kind"), values.get("end", False)
    if not isinstance(end, bool):
        raise ArdmError(f"the end of symbols is true or false; got {end!r}")
    if kind in ("bytes", "27"):
        return Letters(end, BYTES if kind == "bytes" else LETTERS)
    alphabet = values.get("alphabet")
    if (
        kind == "letters"
        and isinstance(alphabet, str)
        and alphabet.isascii()
        and 0 < len(set(alphabet)) == len(alphabet)
    ):
        return Letters(end, alphabet.encode())
    characters = values.get("characters")
    if kind == "characters" and isinstance(characters, str) and len(set(characters)) == len(characters):
        return Characters(end, characters)
    if kind == "tokens":
        found = Tokens(end, tokenizer=tokenizer)
        if found.sha256 != values.get("sha256"):
            raise ArdmError(f"{TOKENIZER} is not the tokenizer of the model: fetch the model again")
        return found
    raise ArdmError(f"symbols are bytes, 27, letters, characters or tokens; got {json.dumps(values)[:80]}")


def ended(pieces: Sequence[tuple[Ints, Ints]], length: int, symbols: Symbols, last: int) -> tuple[Ints, Ints]:
    """Texts (values, bytes) as items (N, length), and the bytes of each (N,).

    A text is cut into consecutive items; the last of them is filled with the end, and holds nothing else where the text fills
    the items before it, so that texts come back as they were.
    last: the bytes for which an end stands: 1 for a line, 0 for a file.
    """
    items, sizes = list[Ints](), list[int]()
    for values, own in pieces:
        for a in range(0, len(values) + 1, length):
            part = values[a : a + length]
            items.append(np.pad(part, (0, length - len(part)), constant_values=symbols.classes - 1))
            sizes.append(int(own[a : a + length].sum()) + last * (len(part) < length))
    return np.stack(items), np.array(sizes, dtype=np.int64)
