"""Proxies that return the same bytes: nginx from a file, nginx and Varnish in front of chat-stats."""

import shutil
from pathlib import Path

from bench.peers import BODIES

_NGINX = """
daemon off;
worker_processes {workers};
pid {home}/nginx.pid;
error_log {home}/nginx.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    default_type application/json;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    open_file_cache max=100;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    {more}
}}
"""
_FILES = "server {{ listen 127.0.0.1:{port} reuseport; {locations} }}"
# As in docs/operations.md, and with connections to the service that stay open.
_CACHE = """
    proxy_cache_path {home}/cache keys_zone=stats:1m use_temp_path=off;
    upstream chat_stats {{ server 127.0.0.1:{behind}; keepalive 4; }}
    server {{
        listen 127.0.0.1:{port} reuseport;
        location / {{
            proxy_pass http://chat_stats;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_cache stats;
            proxy_cache_revalidate on;
            proxy_cache_background_update on;
        }}
    }}
"""


def program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def missing() -> list[str]:
    """Return which proxies are not installed."""
    return [name for name in ("nginx", "varnishd") if program(name) is None]


def nginx_files(folder: Path, port: int, workers: int = 1) -> list[str] | None:
    """Return the command of an nginx that sends the bodies from files, or None if it is not installed."""
    locations = " ".join(f"location = {path} {{ alias {folder}/{name}; }}" for path, name in BODIES.items())
    return _nginx(folder / "nginx-files", workers, _FILES.format(port=port, locations=locations))


def nginx_cache(folder: Path, port: int, behind: int, workers: int = 1) -> list[str] | None:
    """Return the command of an nginx that caches what the service on port `behind` sends."""
    home = folder / "nginx-cache"
    return _nginx(home, workers, _CACHE.format(home=home, port=port, behind=behind))


def _nginx(home: Path, workers: int, more: str) -> list[str] | None:
    found = program("nginx")
    if found is None:
        return None
    home.mkdir(mode=0o755)
    file = home / "nginx.conf"
    file.write_text(_NGINX.format(home=home, workers=workers, more=more))
    return [found, "-p", str(home), "-e", str(home / "nginx.log"), "-c", str(file)]


def varnish(folder: Path, port: int, behind: int, *, gzip: bool) -> list[str] | None:
    """Return the command of a Varnish in front of the service on port `behind`, or None without Varnish.

    With `gzip`, its default, Varnish asks for gzip alone and unpacks it for each client that accepts none.
    """
    found = program("varnishd")
    if found is None:
        return None
    return [
        *(found, "-F", "-j", "none", "-n", str(folder / f"varnish-{port}"), "-s", "malloc,64m"),
        *("-p", f"http_gzip_support={'on' if gzip else 'off'}"),
        *("-a", f"127.0.0.1:{port}", "-b", f"127.0.0.1:{behind}"),
    ]
