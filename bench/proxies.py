"""Proxies that return the same bytes: nginx from a file, and Varnish in front of chat-stats."""

import shutil
from pathlib import Path

_NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    default_type application/json;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    open_file_cache max=100;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    server {{
        listen 127.0.0.1:{port};
        location = /models {{ alias {folder}/models.json; }}
        location = /providers {{ alias {folder}/providers.json; }}
    }}
}}
"""


def program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def nginx(folder: Path, port: int) -> list[str] | None:
    """Return the command, or None if nginx is not installed."""
    found = program("nginx")
    if found is None:
        return None
    file = folder / "nginx.conf"
    file.write_text(_NGINX.format(folder=folder, port=port))
    return [found, "-p", str(folder), "-e", str(folder / "nginx.log"), "-c", str(file)]


def varnish(folder: Path, port: int, behind: int) -> list[str] | None:
    """Return the command of a Varnish in front of the service on port `behind`, or None without Varnish."""
    found = program("varnishd")
    if found is None:
        return None
    return [
        *(found, "-F", "-j", "none", "-n", str(folder / "varnish"), "-s", "malloc,64m"),
        *("-a", f"127.0.0.1:{port}", "-b", f"127.0.0.1:{behind}"),
    ]
