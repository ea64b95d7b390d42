"""Single items of an archive from Python: what `ardm extract` does, without files.

with ardm.open_archive("tiles.ardm") as archive:
    archive[17]                            # a picture (C, H, W), a sound (C, L), or bytes; only its bytes are read
    archive["tiles/0017.png"]              # the same item by its name
    archive.many([3, "tiles/0005.png"])    # several, together through the network
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from numpy.typing import NDArray

from ardm.atomic import reasons, refuse_source
from ardm.codec.archive import open_archive as open_items
from ardm.codec.binary import Reader
from ardm.codec.header import read_header
from ardm.codec.registry import maker
from ardm.errors import ArdmError
from ardm.exact.model import CodecModel
from ardm.files.items import BYTES, Bytes, HasCodec, codec_of, value_of
from ardm.files.limits import refuse_foreign

TOGETHER = 256
"""Items that iterating decodes together."""


class ItemArchive:
    """The items of an archive, by number or name.  Reading one reads and verifies nothing else of the file.

    names: of the items, folders and links included; None for the rows of an array.  `len` counts them, and iterating
    gives the items that are files, in their order.  Close it after use, or open it in a `with` statement.  It reads from
    one file: let each thread open its own.
    """

    def __init__(self, file: BinaryIO, model: str | Path | CodecModel | None = None) -> None:
        refuse_foreign(file, True)
        at = file.tell()
        if read_header(Reader.open(file)).items is None:
            raise ArdmError("this is a single file, not an archive; ardm.decompress reads it")
        file.seek(at)
        self._file, self._archive = file, open_items(file)
        self._models = maker(names=() if model is None else [model])

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of the items."""
        return self._archive.names

    def __len__(self) -> int:
        return len(self._archive)

    def __contains__(self, name: object) -> bool:
        return name in self._archive

    def __getitem__(self, item: int | str) -> bytes | NDArray[Any]:
        """Decode one item.  Raises CodecError where it is damaged, ArdmError where there is none, or no file."""
        return self.many([item])[0]

    def __iter__(self) -> Iterator[bytes | NDArray[Any]]:
        files = [number for number in range(len(self)) if not self._archive.entry(number)[0]]
        for at in range(0, len(files), TOGETHER):
            yield from self.many(files[at : at + TOGETHER])

    def many(self, items: Iterable[int | str]) -> list[bytes | NDArray[Any]]:
        """Decode several items together, in less time than one by one; raises as for one, and then returns none."""
        numbers = [self._number(item) for item in items]
        return [value_of(content) for content in self._archive.items(self._models, numbers)]

    def _number(self, item: int | str) -> int:
        """The number of an item that is a file.  Raises ArdmError where there is none."""
        if isinstance(item, bool) or not (isinstance(item, str) or hasattr(item, "__index__")):
            raise ArdmError(f"an item of an archive has a number or a name; got {type(item).__name__}")
        number = self._archive.find(item) if isinstance(item, str) else item.__index__()
        kind = self._archive.entry(number)[0]
        if kind:
            names: Sequence[object] = self.names or ()
            raise ArdmError(f"{names[number]} is {'an empty folder' if kind == 'folder' else 'a link'}, not a file")
        return number

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> ItemArchive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        named = "" if self.names is None else f", the first {self.names[0]!r}"
        return f"ItemArchive({len(self):,} items{named})"


def open_archive(source: str | Path | Bytes, model: str | Path | CodecModel | HasCodec | None = None) -> ItemArchive:
    """Open an archive of `ardm compress --archive`: its path, or its bytes.

    model: a codec model to try before the bundled ones, as in `ardm.decompress`.
    Raises CodecError for a damaged or foreign file, ArdmError where it cannot be read or is no archive.
    """
    found = codec_of(model)
    if isinstance(source, BYTES):
        return ItemArchive(BytesIO(source), found)
    if not isinstance(source, (str, Path)):
        raise ArdmError(f"an archive is a path, or its bytes; got {type(source).__name__}")
    refuse_source(Path(source))
    with ExitStack() as stack, reasons(f"cannot read {source}"):
        archive = ItemArchive(stack.enter_context(Path(source).open("rb")), found)
        stack.pop_all()  # it closes the file itself
        return archive
