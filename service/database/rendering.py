"""Renders the templates of `sql/` and of the plain statements, which repeat what `measures.py` declares.

Templates are Jinja's. A name that they do not know, of a measure or anything else, is an error that names the
template: it shows in `migrate` and in the tests, before any statement runs.
"""

import re
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError

from chat_stats.service.catalogue import measures as declared_measures
from chat_stats.service.catalogue import rollups as declared_rollups
from chat_stats.service.catalogue.dimensions import Dimensions, known_dimensions
from chat_stats.service.catalogue.error_kinds import DEFAULT as DEFAULT_KINDS
from chat_stats.service.catalogue.error_kinds import (
    MESSAGE_CHARACTERS,
    OTHER,
    SEPARATORS,
    ErrorKind,
    parse_error_kinds,
)
from chat_stats.service.catalogue.figures import FIGURES, of_cost
from chat_stats.service.catalogue.kept_dimensions import KeptDimension, OwnRollup, identifier, kept_dimensions
from chat_stats.service.catalogue.measures import MEASURES, Measure, columns
from chat_stats.service.catalogue.rollups import (
    DIMENSIONS,
    OWN_TIERS,
    ROLLUPS,
    Rollup,
    dimensions,
    finer,
    fold_sources,
)
from chat_stats.service.catalogue.statuses import Statuses, listed_in, literals
from chat_stats.service.errors import SchemaError

SQL = Path(__file__).parents[2] / "sql"
QUERIES = Path(__file__).parent / "queries"

#: All migrations and functions in one file, for `psql -f` and as one migration of another tool.
RENDERED = SQL / "chat_stats.sql"
_HEADER = """\
-- All that chat-stats has in a database, in one file: for psql -f, or as one migration of Supabase.
-- `make sql` makes it from the templates in this folder.
--
-- `chat-stats migrate` does the same, and builds indexes while others write.
"""


BUILT_IN = known_dimensions()

#: Plain statements that are kept as they were rendered, of up to 30 KB each: rendering takes milliseconds.
MOST_RENDERED = 100


class Renderer:
    """Renders templates of some folders for some measures, rollups and meanings of statuses.

    In plain statements `service.database.names` puts the statuses in place, as it does the schemas: they are
    rendered once for all settings of a process.
    """

    def __init__(
        self,
        measures: Sequence[Measure] = MEASURES,
        rollups: Sequence[Rollup] = ROLLUPS,
        statuses: Statuses | None = None,
        *,
        own: Sequence[OwnRollup] = (),
        known: Dimensions = BUILT_IN,
        sql: Path = SQL,
        queries: Path = QUERIES,
    ) -> None:
        rollups = [*rollups, *(each.rollup for each in own)]
        declared_measures.check(measures)
        declared_rollups.check(rollups)
        kept = kept_dimensions(own)
        self._measures = measures
        self._sql = sql
        self._queries = queries
        statuses = statuses or Statuses()
        self._migrations = _environment(sql, queries)
        self._plain = _environment(sql, queries)
        self._rendered: OrderedDict[str, str] = OrderedDict()
        for environment in (self._migrations, self._plain):
            environment.globals.update(
                measures=measures,
                columns=columns(measures),
                rollups=rollups,
                own_tiers=OWN_TIERS,
                dimensions=dimensions(rollups),
                own_rollups=[rollup for rollup in rollups if not rollup.built_in],
                built_in=[rollup for rollup in rollups if rollup.built_in],
                built_in_dimensions=DIMENSIONS,
                kept_dimensions=kept,
                kept_sources=dict.fromkeys(source for each in kept.values() for source in each.sources),
                literals=literals,
                absent_columns=_absent(kept.values(), measures),
                error_kinds=_error_kinds(_kept_kinds(kept.values())),
                finer=partial(finer, rollups),
                fold_sources=partial(fold_sources, rollups),
                each=partial(_each, measures),
                measure=_finder("measure", {measure.name: measure for measure in measures}),
                rollup=_finder("rollup", {rollup.name: rollup for rollup in rollups}),
            )
        self._plain.globals["statuses"] = {what: f"{what}_statuses" for what in statuses.listed()}
        self._migrations.globals["asked"] = _asked(known)
        self._migrations.globals["statuses"] = {
            "success": listed_in(statuses.success),
            "pending": listed_in(statuses.pending),
            **{f"{what}_sorted": literals(listed) for what, listed in statuses.listed().items()},
        }

    def render(self, name: str, *, in_one_file: bool = False) -> str:
        """Return the text of a template; raise `SchemaError`, naming it, where it cannot be rendered."""
        environment = self._plain if (self._queries / name).is_file() else self._migrations
        try:
            return environment.get_template(name).render(in_one_file=in_one_file)
        except (TemplateError, SchemaError) as error:
            line = getattr(error, "lineno", None)
            raise SchemaError(f"{name}{f', line {line}' if line else ''}: {error}") from error

    def statement(self, name: str, kept: Collection[str], /, **context: Any) -> str:
        """Return a plain statement over some measures alone; `context`: more names for its template.

        What is in the context must show all of itself in its repr(): by that, the last statements are kept.
        """
        measures = [measure for measure in self._measures if measure.name in kept]
        key = repr((name, [measure.name for measure in measures], context))
        if (text := self._rendered.get(key)) is None:
            text = self._plain.get_template(name).render(
                measures=measures, columns=columns(measures), each=partial(_each, measures), **context
            )
            while len(self._rendered) >= MOST_RENDERED:
                self._rendered.popitem(last=False)
            self._rendered[key] = text
        self._rendered.move_to_end(key)
        return text

    def sql(self) -> list[str]:
        """Return the names of all migrations, functions and clean-ups, in the order in which they run."""
        found = [
            *sorted((self._sql / "migrations").glob("*.sql")),
            *sorted((self._sql / "functions").rglob("*.sql")),
            *sorted((self._sql / "clean_up").glob("*.sql")),
        ]
        return [path.relative_to(self._sql).as_posix() for path in found]

    def functions(self) -> list[str]:
        """Return the names of all functions."""
        return sorted(path.stem for path in (self._sql / "functions").rglob("*.sql"))

    def statements(self) -> dict[str, str]:
        """Return the plain statements by name."""
        return {path.stem: self.render(path.name) for path in sorted(self._queries.glob("*.sql"))}

    def in_one_file(self) -> str:
        """Return all migrations and functions as plain statements, for `RENDERED`."""
        texts = (self.render(name, in_one_file=True).strip() for name in self.sql())
        return "\n\n".join([_HEADER.strip(), *texts]) + "\n"


def _absent(kept: Iterable[KeptDimension], measures: Sequence[Measure]) -> dict[str, str]:
    """Return what stands in for columns of dimensions, with types."""
    of_measures = {identifier(column.name) for column in columns(measures)}
    pairs = dict(pair for each in kept if (pair := each.absent()) is not None)
    needed = {identifier(name) for name in ("created_at", "status", *DIMENSIONS)}
    return {name: type_ for name, type_ in pairs.items() if name not in of_measures | needed}


def _kept_kinds(kept: Iterable[KeptDimension]) -> Sequence[ErrorKind]:
    """Return the kinds of errors that rollups are kept by."""
    return next(
        (each.dimension.error_kinds for each in kept if each.dimension.kind == "error_kind"),
        parse_error_kinds(DEFAULT_KINDS),
    )


def _error_kinds(kinds: Iterable[ErrorKind]) -> dict[str, Any]:
    """Return what tells these kinds of errors apart, for the templates."""
    return {
        "kinds": [
            (f"ARRAY[{literals(kind.patterns())}]::text[]", f"{literals([kind.name])}::text")
            for kind in kinds
        ],
        "other": f"{literals([OTHER])}::text",
        "characters": MESSAGE_CHARACTERS,
        "separators": f"{literals([SEPARATORS])}::text",
        "blanks": f"{literals([' ' * len(SEPARATORS)])}::text",
    }


def _asked(known: Dimensions) -> dict[str, Any]:
    """Return the measures and dimensions of `get_chat_request_stats` for the templates."""
    return {
        "figures": [
            (figure.name, "bigint" if figure.type == "int" else "numeric", bool(of_cost([figure.name])))
            for figure in FIGURES.values()
        ],
        "names": literals(known),
        "definitions": [
            (literals([each.name]), literals([orjson.dumps(each.definition()).decode()]))
            for each in known.values()
            if not each.is_id
        ],
        "columns": [each for each in known.values() if each.kind == "column"],
        **_error_kinds(known["error_kind"].error_kinds),
        "quoted": lambda text: literals([text]),
    }


def _environment(*folders: Path) -> Environment:
    return Environment(
        loader=FileSystemLoader(folders),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - SQL, and all values are quoted or constants of ours
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _each(measures: Sequence[Measure], pattern: str, indent: int | None = None) -> str:
    """Return a list with `pattern` for each measure: in one line, or with `indent` in a line for each.

    In the pattern, `{name}`, `{total}` and `{type}` are the measure's; `{cast}` gives a sum of it that type.
    `{float}` lets that be a sum of floating-point numbers where it is one of counts: it is exact up to 2^53,
    and costs a third of one of bigint.
    """
    return (", " if indent is None else ",\n" + " " * indent).join(
        re.sub(r"\{(\w+)\}", partial(_field, measure), pattern) for measure in measures
    )


def _field(measure: Measure, place: re.Match[str]) -> str:
    fields = {
        "name": measure.name,
        "total": measure.total,
        "type": measure.type,
        "cast": "::bigint" if measure.type == "bigint" else "",
        "float": "::double precision" if measure.type == "bigint" else "",
    }
    if place[1] not in fields:
        raise SchemaError(f"a measure has no {place[1]}; it has {', '.join(fields)}")
    return fields[place[1]]


def _finder(kind: str, known: dict[str, Any]) -> Any:
    def find(name: str) -> Any:
        if name not in known:
            raise SchemaError(f"unknown {kind} {name}; known: {', '.join(known)}")
        return known[name]

    return find


@cache
def declared(
    statuses: Statuses | None = None, dimensions: str = "", error_kinds: str = DEFAULT_KINDS
) -> Renderer:
    """Return the renderer for what is declared, in the settings too; without arguments for the defaults."""
    return Renderer(statuses=statuses, known=known_dimensions(dimensions, error_kinds))


def main() -> None:
    RENDERED.write_text(declared().in_one_file(), encoding="utf-8")


if __name__ == "__main__":
    main()
