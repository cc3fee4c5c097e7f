"""The chat-stats web service, and the core that it shares with the worker."""

from importlib.metadata import version

VERSION = version("chat-stats")
