"""The format of what is stored in Redis: one computed answer, and what the last refresh published."""

import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from hashlib import blake2b
from typing import Any, ClassVar

import orjson

from chat_stats.service.cache.compression import Beginning, begin_gzip, begin_zstd

#: Version of the keys and of the entry format. Another version is another set of keys, so that old and new
#: processes can share a Redis. The bodies' fields are no part of it: they have a digest in the query's key
#: (`Aggregation.key_name`).
VERSION = 2

#: Bytes at the start of a stored entry that hold its first line.
HEADER_BYTES = 1024


#: Metadata that change with the time of the computation: an older cursor is as good.
_NO_NUMBERS = ("next_cursor",)


class UndecodableEntry(Exception):
    """What is stored under a key is not an entry of this version, or not a whole one."""


@dataclass(frozen=True)
class Entry:
    """One computed answer: its body, and how, when and in which generation it was computed."""

    #: The start of every response, before the body.
    OPENING: ClassVar = b'{"success":true,"data":'

    #: The JSON of `data`.
    body: bytes
    #: Metadata beside the common fields, such as `total_models`.
    totals: dict[str, Any]
    method: str
    computed_at: datetime
    compute_ms: float
    generation: str
    unavailable: tuple[str, ...] = ()
    #: "15m": requests at an edge of the range were purged, so that it is exact to 15 minutes only.
    precision: str | None = None
    #: "shard": Citus holds the requests, and its nodes have no snapshot in common.
    consistency: str | None = None
    #: Whether the worker does not keep it computed: it stays fresh until the next refresh of everything.
    on_demand: bool = False

    def age_seconds(self, now: datetime) -> float:
        """Return the age; 0 when it is from the future, because the clock was set back."""
        return max(0.0, (now - self.computed_at).total_seconds())

    @cached_property
    def etag(self) -> bytes:
        """A validator of the numbers: the same from every process and refresh that finds the same ones.

        A weak one, since the metadata beside them (age, timestamp) differs from response to response.
        """
        numbers = {name: value for name, value in self.totals.items() if name not in _NO_NUMBERS}
        return f'W/"{blake2b(self.body + orjson.dumps(numbers), digest_size=12).hexdigest()}"'.encode()

    @cached_property
    def gzip(self) -> Beginning:
        """Opening and body as the beginning of a gzip stream, made when first needed."""
        return begin_gzip(self.OPENING + self.body)

    @cached_property
    def zstd(self) -> Beginning:
        """The same as the beginning of a Zstandard frame."""
        return begin_zstd(self.OPENING + self.body)

    @cached_property
    def head(self) -> bytes:
        """The first line of the stored form: of two entries with the same one, all is the same."""
        header = {
            "format": f"chat-stats/{VERSION}",
            "length": len(self.body),
            "crc32": zlib.crc32(self.body),
            "method": self.method,
            "computed_at": self.computed_at.isoformat(),
            "compute_ms": self.compute_ms,
            "generation": self.generation,
            "totals": self.totals,
            "unavailable": self.unavailable,
            "precision": self.precision,
            "consistency": self.consistency,
            "on_demand": self.on_demand,
        }
        return orjson.dumps(header) + b"\n"

    def has_made(self, form: str) -> bool:
        """Return whether the `gzip` or `zstd` form is made already."""
        return form in self.__dict__


def body_of(data: Any) -> bytes:
    """Return the JSON of an answer's data, to be kept as a body.

    It is a copy: orjson leaves kilobytes of room behind a small result, for as long as that lives.
    """
    return bytes(memoryview(orjson.dumps(data)))


def encode(entry: Entry) -> bytes:
    """Return the stored form: one line of JSON that describes the entry, then its body."""
    return entry.head + entry.body


def decode(stored: bytes) -> Entry:
    """Read the stored form; `UndecodableEntry` says what is wrong with it."""
    line, _, body = stored.partition(b"\n")
    try:
        header = orjson.loads(line)
        if header["format"] != f"chat-stats/{VERSION}":
            raise UndecodableEntry("it has another format")
        if (header["length"], header["crc32"]) != (len(body), zlib.crc32(body)):
            raise UndecodableEntry("it is truncated or damaged")
        return Entry(
            body=body,
            totals=dict(header["totals"]),
            method=str(header["method"]),
            computed_at=_moment(header["computed_at"]),
            compute_ms=float(header["compute_ms"]),
            generation=str(header["generation"]),
            unavailable=tuple(header["unavailable"]),
            precision=header.get("precision"),
            consistency=header.get("consistency"),
            on_demand=bool(header.get("on_demand")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UndecodableEntry(f"it is no chat-stats entry ({type(error).__name__})") from None


@dataclass(frozen=True, slots=True)
class EntryHeader:
    """How and when an entry was computed: what can be known without reading its body."""

    method: str
    computed_at: datetime


def decode_header(start: object) -> EntryHeader | None:
    """Read the first `HEADER_BYTES` of a stored form; None when there are none, or something else."""
    if not isinstance(start, bytes):  # an error of Redis: the value is no string
        return None
    try:
        header = orjson.loads(start.partition(b"\n")[0])
        return EntryHeader(str(header["method"]), _moment(header["computed_at"]))
    except (ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True, slots=True)
class Generation:
    """What the last refresh of everything published."""

    generation: str
    computed_at: datetime
    duration_ms: float
    entries: int
    #: Aggregations that could not be computed in time.
    failed: int
    #: What it computed: the aggregations' names with the digests of their fields, as in the keys.
    aggregations: tuple[str, ...] = ()
    #: When each window was last refreshed, in this cache and with these aggregations, by whatever worker.
    windows: Mapping[str, datetime] = field(default_factory=dict)
    #: The windows whose totals alone were published, between two refreshes; empty: a refresh did.
    totals: tuple[str, ...] = ()

    def age_seconds(self, now: datetime) -> float:
        return max(0.0, (now - self.computed_at).total_seconds())

    def figures(self) -> dict[str, Any]:
        """Return what readiness and `status` state."""
        figures = asdict(self)
        for name in ("aggregations", "windows", "totals"):
            del figures[name]
        return figures

    def encode(self) -> bytes:
        return orjson.dumps(self)


def decode_generation(stored: bytes | None) -> Generation | None:
    """Read what `Generation.encode` wrote; None when there is nothing, or something else."""
    try:
        fields = orjson.loads(stored or b"")
        return Generation(
            str(fields["generation"]),
            _moment(fields["computed_at"]),
            float(fields["duration_ms"]),
            int(fields["entries"]),
            int(fields["failed"]),
            tuple(fields["aggregations"]),
            {name: _moment(text) for name, text in fields.get("windows", {}).items()},
            tuple(fields.get("totals", ())),
        )
    except (ValueError, KeyError, TypeError):
        return None


def _moment(text: str) -> datetime:
    """Read a time; one without an offset means UTC."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
