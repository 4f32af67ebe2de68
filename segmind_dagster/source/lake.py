"""A folder or bucket as a warehouse: dlt's `filesystem` destination with Delta tables.

Without a table format that destination appends where it should merge, and rows double; so every table here is a
Delta table. They are read through `deltalake`, which wrote them: dlt's own way has DuckDB download an extension first.
Only loaded when the destination is a filesystem.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from dlt.destinations import filesystem
from dlt.destinations.impl.filesystem.filesystem import FilesystemClient
from dlt.destinations.impl.filesystem.sql_client import FilesystemSqlClient

if TYPE_CHECKING:
    from dlt.common.destination import DestinationCapabilitiesContext
    from dlt.common.destination.typing import PreparedTableSchema
    from dlt.common.schema import Schema
    from dlt.common.storages.configuration import FileSystemCredentials
    from dlt.destinations.sql_client import SqlClientBase
    from dlt.extract.source import DltSource

_TABLE_FORMAT: Final = "delta"
# dlt 1.31 makes a row without a key to learn the columns of a table that is new and empty, and then fails to
# hash that key; not so for a table that has had rows
_HAD_ROWS = {"x-normalizer": {"seen-data": True}}


class lake(filesystem):  # noqa: N801  named as dlt names destinations
    """The destination; its configuration is that of `filesystem`, under the same names."""

    @property
    def client_class(self) -> type[FilesystemClient]:
        """The client that reads Delta tables without DuckDB's extensions."""
        return LakeClient

    def _raw_capabilities(self) -> DestinationCapabilitiesContext:
        capabilities = super()._raw_capabilities()
        capabilities.preferred_table_format = _TABLE_FORMAT
        return capabilities


class LakeClient(FilesystemClient):
    """Writes as dlt does."""

    @property
    def sql_client_class(self) -> type[SqlClientBase[Any]]:
        """What reads."""
        return LakeSqlClient

    @property
    def sql_client(self) -> SqlClientBase[Any]:
        """A DuckDB in memory with a view for each table that is asked for."""
        client: SqlClientBase[Any] | None = self._sql_client
        if client is None:
            client = self._sql_client = LakeSqlClient(self, self.dataset_name)
        return client

    @sql_client.setter
    def sql_client(self, client: SqlClientBase[Any]) -> None:
        self._sql_client = client


class LakeSqlClient(FilesystemSqlClient):
    """Views over Delta tables, as they are at each query."""

    def create_secret(
        self,
        scope: str,  # noqa: ARG002  dlt's signature, and below
        credentials: FileSystemCredentials,  # noqa: ARG002
        secret_name: str | None = None,  # noqa: ARG002
        persist_secrets: bool = False,  # noqa: ARG002
    ) -> bool:
        """Let DuckDB read dlt's own tables through fsspec: its secrets need an extension."""
        protocol = self.remote_client.config.protocol
        if protocol != "file":
            self._register_filesystem(self.remote_client.fs_client, protocol)
        return True

    def should_replace_view(self, view_name: str, table_schema: PreparedTableSchema) -> bool:  # noqa: ARG002
        """A view is of one version of its table, so each query makes its own."""
        return True

    def create_view_select(
        self, table_schema: PreparedTableSchema, schema: Schema | None = None
    ) -> tuple[str, str] | None:
        """The view of a table."""
        schema = schema or self.schema
        name = str(table_schema["name"])
        if name in schema.dlt_table_names():
            return super().create_view_select(table_schema, schema)
        table = self.remote_client.load_open_table(_TABLE_FORMAT, name, schema_name=schema.name)
        there = set(table.schema().to_arrow().names)
        columns = ", ".join(self.escape_column_name(column) for column in table_schema["columns"] if column in there)
        self._conn.register(f"delta_{name}", table.to_pyarrow_dataset())
        return f"{schema.name}/{name}", f"SELECT {columns} FROM {self.escape_column_name(f'delta_{name}')}"  # noqa: S608


def with_empty_tables(source: DltSource) -> DltSource:
    """The same source, of which resources without a row can become tables here."""
    for resource in source.resources.values():
        resource.apply_hints(additional_table_hints=cast("Any", _HAD_ROWS))
    return source
