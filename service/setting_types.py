"""The types of settings: how a text becomes a value, and what is said of one that is wrong."""

import os
from pathlib import Path
from typing import Annotated, Any

from limits import parse as parse_rate
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo
from pydantic_settings import NoDecode

from chat_stats.service.catalogue.dimensions import Dimensions, known_dimensions
from chat_stats.service.catalogue.question_parameters import parse_kept
from chat_stats.service.catalogue.timerange import parse_window
from chat_stats.service.catalogue.usage_questions import usage_questions
from chat_stats.service.connecting import url_checks
from chat_stats.service.errors import InvalidParameter

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _strip(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value  # a file's last line end


def _none_if_empty(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


def _known_windows(value: tuple[str, ...]) -> tuple[str, ...]:
    try:
        windows = tuple(dict.fromkeys(parse_window(window) for window in value))
    except InvalidParameter as error:
        raise ValueError(str(error)) from None
    if not windows:
        raise ValueError("name at least one window")
    return windows


def _lower(value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(status.lower() for status in value))


def _some_status(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("name at least one status")
    return value


def _no_success(value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    if both := [status for status in value if status in info.data.get("success_statuses", ())]:
        raise ValueError(f"{', '.join(both)} is in CHAT_STATS_SUCCESS_STATUSES, too")
    return value


def _known_error_kinds(value: str) -> str:
    known_dimensions(error_kinds=value)
    return value


def _known_dimensions(value: str) -> str:
    known_dimensions(value)
    return value


def _declared(info: ValidationInfo) -> Dimensions | None:
    """Return the dimensions that the settings before declare; None: these are what is wrong."""
    if "dimensions" not in info.data or "error_kinds" not in info.data:
        return None
    return known_dimensions(info.data["dimensions"], info.data["error_kinds"])


def _known_questions(value: str, info: ValidationInfo) -> str:
    if (known := _declared(info)) is not None:
        parse_kept(value, known)
    return value


def _known_usage(value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(value))
    if (known := _declared(info)) is not None:
        try:
            usage_questions(names, known)
        except InvalidParameter as error:
            raise ValueError(str(error)) from None
    return names


def _of_postgres(value: SecretStr | None) -> SecretStr | None:
    if value is not None:
        url_checks.check_postgres_url(value.get_secret_value())
    return value


def _of_redis(value: SecretStr | None) -> SecretStr | None:
    if value is not None:
        url_checks.check_redis_url(value.get_secret_value())
    return value


def _known_proxies(value: str) -> str:
    url_checks.check_proxies(value)
    return value


def _known_origins(value: tuple[str, ...]) -> tuple[str, ...]:
    url_checks.check_origins(value)
    return value


def _writable(value: Path | None) -> Path | None:
    if value is not None and not (value.is_dir() and os.access(value, os.W_OK)):
        raise ValueError(f"{str(value)!r} is no folder that can be written to")
    return value


def _known_rate(value: str) -> str:
    try:
        _ = value and parse_rate(value)
    except ValueError:
        raise ValueError("write it like 100/minute or 5000/hour; empty for no limit") from None
    return value


def _known_level(value: str) -> str:
    if value.upper() not in LEVELS:
        raise ValueError(f"known: {', '.join(LEVELS)}")
    return value.upper()


#: A text without anything in it: as if the setting were not there.
NONE_IF_EMPTY = BeforeValidator(_none_if_empty)
#: Commas between the values of a text.
SPLIT = (NoDecode, BeforeValidator(_split))

Wait = Annotated[float, Field(gt=0, le=300, allow_inf_nan=False)]
Duration = Annotated[float, Field(gt=0, le=366 * 86400, allow_inf_nan=False)]
LongWait = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]

CommaSeparated = Annotated[tuple[str, ...], *SPLIT]
Secrets = Annotated[tuple[SecretStr, ...], *SPLIT]
Windows = Annotated[CommaSeparated, AfterValidator(_known_windows)]
Origins = Annotated[CommaSeparated, AfterValidator(_known_origins)]
SuccessStatuses = Annotated[CommaSeparated, AfterValidator(_lower), AfterValidator(_some_status)]
PendingStatuses = Annotated[CommaSeparated, AfterValidator(_lower), AfterValidator(_no_success)]
ErrorKinds = Annotated[str, AfterValidator(_known_error_kinds)]
DimensionList = Annotated[str, AfterValidator(_known_dimensions)]
Questions = Annotated[str, AfterValidator(_known_questions)]
UsageDimensions = Annotated[CommaSeparated, AfterValidator(_known_usage)]
Proxies = Annotated[str, AfterValidator(_known_proxies)]
Rate = Annotated[str, AfterValidator(_known_rate)]
LogLevel = Annotated[str, AfterValidator(_known_level)]

PostgresUrl = Annotated[SecretStr, BeforeValidator(_strip), AfterValidator(_of_postgres)]
RedisUrl = Annotated[SecretStr, BeforeValidator(_strip), AfterValidator(_of_redis)]
Folder = Annotated[Path, AfterValidator(_writable)]
