"""How a dataset lies in its folder: Parquet with the files inside, or files beside a metadata table.

Both are what Hugging Face's `datasets` loads as they are. One kind of output lies in the folder itself, several in a
folder each, because that is how its loaders take them. What goes in is decided in `rows`.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Self

from segmind_dagster.export.files import file_name
from segmind_dagster.export.rows import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pyarrow as pa

    from segmind_dagster.export.rows import Item
    from segmind_dagster.registry import OutputKind

# a row group is held in memory; a file is what people move about
_ROW_GROUP_BYTES: Final = 64 * 1024 * 1024
_SHARD_BYTES: Final = 500 * 1024 * 1024
_FEATURES: Final = {"image": "Image", "video": "Video", "audio": "Audio"}


class ImageFolder:
    """In an empty folder: files, and `metadata.jsonl` with their `file_name`; texts are lines of `texts.jsonl`."""

    def __init__(self, folder: Path, *, is_mixed: bool) -> None:
        self._folder = folder
        self._is_mixed = is_mixed
        self._stack = ExitStack()
        self._tables: dict[OutputKind, Any] = {}

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Close the tables."""
        self._stack.close()

    def add(self, item: Item, content: bytes) -> None:
        """Write the file and its line."""
        root = self._folder / item.kind if self._is_mixed else self._folder
        if item.kind == "text":
            entry: dict[str, Any] = {"text": content.decode("utf-8", errors="replace")}
        else:
            name = file_name(item)
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            entry = {"file_name": name}
        if item.kind not in self._tables:
            root.mkdir(parents=True, exist_ok=True)
            path = root / ("texts.jsonl" if item.kind == "text" else "metadata.jsonl")
            self._tables[item.kind] = self._stack.enter_context(path.open("w", encoding="utf-8"))
        entry |= {name: float(value) if isinstance(value, Decimal) else value for name, value in item.fields.items()}
        self._tables[item.kind].write(json.dumps(entry, ensure_ascii=False) + "\n")


class ParquetFiles:
    """In an empty folder: `data/train-00000-of-00001.parquet`, the files in a column named after what they are."""

    def __init__(self, folder: Path, *, is_mixed: bool) -> None:
        self._folder = folder
        self._is_mixed = is_mixed
        self._shards: dict[OutputKind, _Shards] = {}

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Write what is left, and name the files."""
        for shards in self._shards.values():
            shards.close()

    def add(self, item: Item, content: bytes) -> None:
        """Put an output into its table."""
        if item.kind not in self._shards:
            root = self._folder / item.kind if self._is_mixed else self._folder
            self._shards[item.kind] = _Shards(root / "data", item.kind)
        self._shards[item.kind].add(item, content)


class _Shards:
    """The Parquet files of one kind of output."""

    def __init__(self, folder: Path, kind: OutputKind) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._kind = kind
        self._schema = _schema(kind)
        self._rows: list[dict[str, Any]] = []
        self._row_bytes = self._shard_bytes = 0
        self._writer: Any = None
        self._paths: list[Path] = []

    def add(self, item: Item, content: bytes) -> None:
        held = (
            content.decode("utf-8", errors="replace")
            if self._kind == "text"
            else {"bytes": content, "path": file_name(item).replace("/", "-")}
        )
        self._rows.append({self._kind: held, **item.fields})
        self._row_bytes += len(content)
        if self._row_bytes >= _ROW_GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        if self._rows:
            self._flush()
        self._end_shard()
        for number, path in enumerate(self._paths):
            path.rename(self._folder / f"train-{number:05}-of-{len(self._paths):05}.parquet")

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._writer is None:
            self._paths.append(self._folder / f"shard-{len(self._paths)}.parquet")
            self._writer = pq.ParquetWriter(self._paths[-1], self._schema)
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._shard_bytes += self._row_bytes
        self._rows, self._row_bytes = [], 0
        if self._shard_bytes >= _SHARD_BYTES:
            self._end_shard()

    def _end_shard(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self._shard_bytes = None, 0


def _schema(kind: OutputKind) -> pa.Schema:
    """Arrow's types, and in the metadata what `datasets` makes of them."""
    import pyarrow as pa

    types: dict[type, tuple[Any, str]] = {
        str: (pa.string(), "string"),
        int: (pa.int64(), "int64"),
        bool: (pa.bool_(), "bool"),
        Decimal: (pa.decimal128(38, 9), "decimal128(38, 9)"),
    }
    is_file = kind in _FEATURES
    held = pa.struct([("bytes", pa.binary()), ("path", pa.string())]) if is_file else pa.string()
    feature = {"_type": _FEATURES[kind]} if is_file else {"dtype": "string", "_type": "Value"}
    fields = [pa.field(kind, held), *(pa.field(name, types[column][0]) for name, column in COLUMNS.items())]
    features = {kind: feature} | {
        name: {"dtype": types[column][1], "_type": "Value"} for name, column in COLUMNS.items()
    }
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})


LAYOUTS: Final[Mapping[str, type[ImageFolder | ParquetFiles]]] = {"parquet": ParquetFiles, "imagefolder": ImageFolder}
