"""The commands that load requests: a log, and the sample."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from chat_stats.service.errors import SchemaError
from chat_stats.worker.cli.output import Json, err, out, print_json
from chat_stats.worker.importer.fields import FIELDS, option


def _column(field: str) -> Any:
    return typer.Option(
        option(field), help=f"The file's column for {field}; recognised by name: {', '.join(FIELDS[field])}."
    )


Column = str | None


def import_(
    file: Annotated[
        Path,
        typer.Argument(
            help="A request log: CSV whose first line names the columns, or JSON lines; - for stdin."
        ),
    ],
    provider: Annotated[
        str | None, typer.Option(help="Provider of all requests; overrides the file's columns.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model of all requests; overrides the file's columns.")
    ] = None,
    created_at: Annotated[Column, _column("created_at")] = None,
    input_tokens: Annotated[Column, _column("input_tokens")] = None,
    output_tokens: Annotated[Column, _column("output_tokens")] = None,
    processing_time_ms: Annotated[Column, _column("processing_time_ms")] = None,
    status: Annotated[Column, _column("status")] = None,
    cost_usd: Annotated[Column, _column("cost_usd")] = None,
    error_message: Annotated[Column, _column("error_message")] = None,
    user_id: Annotated[Column, _column("user_id")] = None,
    request_id: Annotated[Column, _column("request_id")] = None,
    model_column: Annotated[Column, _column("model")] = None,
    provider_column: Annotated[Column, _column("provider")] = None,
    encoding: Annotated[str, typer.Option(help="Encoding of the file.")] = "utf-8",
    delimiter: Annotated[str, typer.Option(help="Character between two cells.")] = ",",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Load the good lines and skip the bad ones.")
    ] = False,
    empty_tokens: Annotated[
        bool, typer.Option("--empty-tokens", help="Read an empty token cell as 'not known'.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Load a request log. If a line is bad, nothing is loaded. A file loaded twice is counted twice."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    from chat_stats.service.settings import load_settings
    from chat_stats.worker.cli import tables
    from chat_stats.worker.importer.load import ImportOptions, import_log
    from chat_stats.worker.importer.standard_input import readable

    columns = {
        "created_at": created_at,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "processing_time_ms": processing_time_ms,
        "status": status,
        "cost_usd": cost_usd,
        "error_message": error_message,
        "user_id": user_id,
        "request_id": request_id,
        "model": model_column,
        "provider": provider_column,
    }
    chosen = ImportOptions(
        provider=provider,
        model=model,
        columns={field: name for field, name in columns.items() if name is not None},
        encoding=encoding,
        delimiter=delimiter,
        skip_bad=skip_bad,
        empty_tokens=empty_tokens,
    )
    settings = load_settings()
    with (
        readable(file) as path,
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            console=err,
            transient=True,
            disable=not err.is_terminal,  # else an error would follow an empty line
        ) as progress,
    ):
        task = progress.add_task(f"importing {path.name}", total=None)
        result = asyncio.run(
            import_log(
                settings,
                path,
                chosen,
                progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
        )
    if as_json:
        print_json(asdict(result))
    else:
        tables.print_import(out, path.name, result)


def sample(
    requests: Annotated[int, typer.Option(min=0, help="Requests to load.")] = 200_000,
) -> None:
    """Load the demo's requests of the last 90 days, if the database is empty."""
    from chat_stats.service.settings import load_settings
    from chat_stats.worker.demo.loading import load_sample

    url = load_settings().database_url.get_secret_value()
    if not asyncio.run(load_sample(err, url, requests)):
        raise SchemaError("the database has rows already: the sample needs an empty one")
    out.print(f"{requests:,} requests loaded", highlight=False)
