"""A user's own files, and the tasks on them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from analog_lora_cli.tasks import make_task
from tests.tasks.section import task_section


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    """A file of the kind that its suffix says."""
    if path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows))
    else:
        import pyarrow
        from pyarrow import ipc, parquet

        table = pyarrow.Table.from_pylist(rows)
        if path.suffix == ".parquet":
            parquet.write_table(table, path)
        else:
            with ipc.new_stream(str(path), table.schema) as stream_writer:
                stream_writer.write_table(table)
    return str(path)


def task(train_file: str | None, validation: str | None = None, name: str = "classification", **keys: Any) -> Any:
    options = {"text_columns": ["remark"], "label_column": "topic", **keys}
    return make_task(task_section(name=name, train_file=train_file, validation_file=validation, **options), seed=3)
