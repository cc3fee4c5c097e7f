"""OpenTelemetry traces, where `pip install 'chat-stats[otel]'` and OTEL_EXPORTER_OTLP_ENDPOINT ask for them.

Otherwise nothing of it is imported. FastAPI makes the spans of requests by itself once there is a provider;
here it is set up, with spans for statements in Postgres, commands to Redis and whole refreshes. All the
standard OTEL_* variables hold, such as OTEL_TRACES_SAMPLER.
"""

import functools
import logging
import os
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any, ParamSpec, TypeVar

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

#: Set while this process traces.
_provider: Any = None
_tracer: Any = None


def start(service_name: str, *, redis: bool = True) -> None:
    """Trace from now on in this process, if that is configured; spans are sent by a thread.

    `redis` is False where Redis is polled, which would be most of what is traced.
    """
    global _provider, _tracer
    if not any(os.environ.get(name) for name in _ENDPOINTS) or _provider is not None:
        return
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
        from opentelemetry.instrumentation.redis import RedisInstrumentor
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        logger.warning("traces are asked for, but %s is missing: pip install 'chat-stats[otel]'", error.name)
        return
    names = {"service.name": os.environ.get("OTEL_SERVICE_NAME") or service_name}
    _provider = TracerProvider(resource=Resource.create(names))
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(_provider)
    _tracer = trace.get_tracer("chat_stats")
    AsyncPGInstrumentor().instrument(tracer_provider=_provider)  # type: ignore[no-untyped-call]
    if redis:
        RedisInstrumentor().instrument(tracer_provider=_provider)
    logging.getLogger().handlers[0].addFilter(_add_trace_id)
    logger.info("tracing as %s", names["service.name"])


def stop() -> None:
    """Send what is left."""
    if _provider is not None:
        _provider.shutdown()


def traced(name: str) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Awaitable[R]]]:
    """Have each run of a coroutine function be a span of that name, where there are traces."""

    def decorate(function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        @functools.wraps(function)
        async def run(*args: P.args, **kwargs: P.kwargs) -> R:
            if _tracer is None:
                return await function(*args, **kwargs)
            with _tracer.start_as_current_span(name):
                return await function(*args, **kwargs)

        return run

    return decorate


def _add_trace_id(record: logging.LogRecord) -> bool:
    """Let a line of the JSON log name the trace that it belongs to."""
    context = import_module("opentelemetry.trace").get_current_span().get_span_context()
    if context.is_valid:
        record.trace_id = f"{context.trace_id:032x}"
    return True
