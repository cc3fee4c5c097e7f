"""The log: text for people or JSON lines for machines, each line with the id of the request that it is about.

Everything goes through the root logger to stderr, also what uvicorn, arq and asyncpg say.
"""

import logging

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.orjson import OrjsonFormatter

from chat_stats.service.observability.request_id import request_id
from chat_stats.service.settings import Settings


def configure_logging(settings: Settings) -> None:
    handler = logging.StreamHandler()
    handler.addFilter(_add_request_id)
    handler.setFormatter(_json() if settings.log_format == "json" else _Text())
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)


def _add_request_id(record: logging.LogRecord) -> bool:
    if (identity := request_id.get()) is not None:
        record.request_id = identity
    return True


def _json() -> logging.Formatter:
    return OrjsonFormatter(
        "{levelname}{name}{message}",
        style="{",
        timestamp="time",
        # The message once more, with a terminal's colours: uvicorn's, for its own formatter.
        reserved_attrs=[*RESERVED_ATTRS, "color_message"],
        rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
    )


class _Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the library's name
        line = super().formatMessage(record)
        identity = getattr(record, "request_id", None)
        return line if identity is None else f"{line} [{identity}]"
