"""ASGI applications that return the same bodies as chat-stats' cached answers, for comparison.

Each is the factory of an application for uvicorn, in a process of its own. They take from the environment
`BENCH_FOLDER` (with the bodies in files), `CHAT_STATS_REDIS_URL` and `CHAT_STATS_DATABASE_URL`. The cache
libraries are used as in the first example of their documentation, and again in their fastest way: rendered
bytes in the cache, so that an answer needs no serialising.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import orjson
from fastapi import FastAPI, Response
from redis.asyncio import Redis
from starlette.types import ASGIApp, Receive, Scope, Send

from chat_stats.service.catalogue.aggregations import MODELS, PROVIDERS

#: Path of each body, and the file that holds it: 3, 46 and 120 KB.
BODIES = {"/providers": "providers.json", "/models": "models.json", "/timeseries": "timeseries.json"}
SECONDS = 3600

Answer = Callable[[str], Awaitable[Any]]


def body(path: str) -> bytes:
    return (Path(os.environ["BENCH_FOLDER"]) / BODIES[path]).read_bytes()


def redis_url() -> str:
    return os.environ["CHAT_STATS_REDIS_URL"]


def bare() -> ASGIApp:
    """The limit: no framework, prepared bytes, and only the necessary headers."""
    return _bare(lambda text: [(b"content-type", b"application/json"), (b"content-length", _length(text))])


def bare_with_headers() -> ASGIApp:
    """The same with as many headers as chat-stats sends: each adds to the server's cost."""
    return _bare(
        lambda text: [
            (b"etag", b'W/"600355c2533bb61c277c339c"'),
            (b"age", b"10"),
            (b"cache-control", b"public, max-age=30, stale-while-revalidate=90, stale-if-error=604800"),
            (b"cache-status", b"chat-stats; hit; ttl=80"),
            (b"vary", b"Accept-Encoding"),
            (b"content-type", b"application/json"),
            (b"content-length", _length(text)),
        ]
    )


def _length(text: bytes) -> bytes:
    return str(len(text)).encode()


def _bare(headers_of: Callable[[bytes], list[tuple[bytes, bytes]]]) -> ASGIApp:
    responses = {path: (headers_of(body(path)), body(path)) for path in BODIES}

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers, text = responses[scope["path"]]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": text})

    return app


def fastapi_cache_objects() -> FastAPI:
    from fastapi_cache.decorator import cache

    app = FastAPI(lifespan=_fastapi_cache)

    def endpoint_of(path: str) -> Callable[[], Awaitable[Any]]:
        async def endpoint() -> Any:
            return orjson.loads(body(path))

        endpoint.__name__ = path[1:]  # part of the key
        return cache(expire=SECONDS)(endpoint)

    for path in BODIES:
        app.get(path)(endpoint_of(path))
    return app


def fastapi_cache_bytes() -> FastAPI:
    """With a custom coder, as the documentation describes."""
    from fastapi_cache.coder import Coder
    from fastapi_cache.decorator import cache

    class Rendered(Coder):
        @classmethod
        def encode(cls, value: Response) -> bytes:
            return bytes(value.body)

        @classmethod
        def decode(cls, value: bytes) -> Response:
            return Response(value, media_type="application/json")

    app = FastAPI(lifespan=_fastapi_cache)

    def endpoint_of(path: str) -> Callable[[], Awaitable[Any]]:
        async def endpoint() -> Any:
            return Response(body(path), media_type="application/json")

        endpoint.__name__ = path[1:]
        return cache(expire=SECONDS, coder=Rendered)(endpoint)

    for path in BODIES:
        app.get(path, response_class=Response)(endpoint_of(path))
    return app


@asynccontextmanager
async def _fastapi_cache(_app: FastAPI) -> AsyncIterator[None]:
    from fastapi_cache import FastAPICache
    from fastapi_cache.backends.redis import RedisBackend

    redis = Redis.from_url(redis_url())
    FastAPICache.init(RedisBackend(redis), prefix=f"fastapi-cache-{os.getpid()}")
    yield
    await redis.aclose()


def cashews_objects() -> FastAPI:
    from cashews import cache

    cache.setup(redis_url())

    @cache(ttl=SECONDS, key="objects:{path}")
    async def answer(path: str) -> Any:
        return orjson.loads(body(path))

    return _objects(answer)


def cashews_bytes() -> FastAPI:
    """With client-side caching, its fastest way: copies in memory, invalidated by Redis."""
    from cashews import cache

    cache.setup(redis_url(), client_side=True)

    @cache(ttl=SECONDS, key="bytes:{path}")
    async def answer(path: str) -> bytes:
        return body(path)

    return _rendered(answer)


def aiocache_objects() -> FastAPI:
    from aiocache.serializers import PickleSerializer

    return _objects(_aiocached("objects", PickleSerializer(), lambda path: orjson.loads(body(path))))


def aiocache_bytes() -> FastAPI:
    from aiocache.serializers import NullSerializer

    return _rendered(_aiocached("bytes", NullSerializer(encoding=None), body))


def _aiocached(namespace: str, serializer: Any, compute: Callable[[str], Any]) -> Answer:
    from aiocache import Cache, cached

    connection = Redis.from_url(redis_url()).connection_pool.connection_kwargs

    @cached(  # type: ignore[untyped-decorator]
        ttl=SECONDS,
        cache=Cache.REDIS,
        serializer=serializer,
        endpoint=connection["host"],
        port=connection["port"],
        namespace=namespace,
        key_builder=lambda _function, path: path,
    )
    async def answer(path: str) -> Any:
        return compute(path)

    return answer  # type: ignore[no-any-return]


def sql() -> FastAPI:
    """No cache: calls the same database function each time."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with asyncpg.create_pool(
            os.environ["CHAT_STATS_DATABASE_URL"], min_size=4, max_size=4, init=_read_json
        ) as pool:
            app.state.pool = pool
            yield

    async def answer(path: str) -> Any:
        function = (MODELS if path == "/models" else PROVIDERS).function
        rows = await app.state.pool.fetch(f"SELECT * FROM {function}()")
        return {"success": True, "data": [dict(row) for row in rows]}

    app = _objects(answer)
    app.router.lifespan_context = lifespan
    return app


async def _read_json(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=str, decoder=orjson.loads)


def _objects(answer: Answer) -> FastAPI:
    """Return an application whose handlers return objects, as most do."""
    app = FastAPI()

    def endpoint_of(path: str) -> Callable[[], Awaitable[Any]]:
        async def endpoint() -> Any:
            return await answer(path)

        return endpoint

    for path in BODIES:
        app.get(path)(endpoint_of(path))
    return app


def _rendered(answer: Answer) -> FastAPI:
    """Return an application whose handlers return rendered bytes."""
    app = FastAPI()

    def endpoint_of(path: str) -> Callable[[], Awaitable[Response]]:
        async def endpoint() -> Response:
            return Response(await answer(path), media_type="application/json")

        return endpoint

    for path in BODIES:
        app.get(path, response_class=Response)(endpoint_of(path))
    return app
