"""A server for every test that asks for one."""

from control_plane import server

__all__ = ["server"]
