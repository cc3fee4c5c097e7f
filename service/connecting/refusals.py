"""Says when a connection failed because nothing listens there, and what that means inside a container."""

import errno
import re
from pathlib import Path

from redis.exceptions import ConnectionError as RedisConnectionError

#: Files that Docker and Podman put into a container.
CONTAINER_FILES = (Path("/.dockerenv"), Path("/run/.containerenv"))

#: What a host without IPv6 says of an address of that kind.
_NO_IPV6 = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENETUNREACH}
_LOOPBACK = re.compile(r"'(127\.[\d.]+|::1)'")


def refusal(error: BaseException) -> str | None:
    """Return what a refused connection means, to follow a colon; None if `error` is something else.

    Of a name with several addresses, such as localhost, asyncio raises one OSError without an errno, whose
    text has that of each address. redis-py's own error may have lost the one that it is of.
    """
    text = str(error)
    is_redis = isinstance(error, RedisConnectionError) and text.startswith(f"Error {errno.ECONNREFUSED} ")
    if not isinstance(error, ConnectionRefusedError) and not is_redis:
        if not isinstance(error, OSError) or error.errno is not None:
            return None
        numbers = {int(number) for number in re.findall(r"\[Errno (\d+)\]", text)}
        if errno.ECONNREFUSED not in numbers or numbers - _NO_IPV6 - {errno.ECONNREFUSED}:
            return None
    hint = ""
    if _LOOPBACK.search(text) and any(file.exists() for file in CONTAINER_FILES):
        hint = " (in a container, localhost is the container; Docker's host is host.docker.internal)"
    return f"nothing listens there{hint}"
