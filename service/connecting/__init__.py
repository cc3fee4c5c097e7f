"""Addresses of servers: what a URL may say, and what a refused connection means."""
