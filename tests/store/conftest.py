"""A control plane for every test that asks for one."""

from control_plane import plane, server

__all__ = ["plane", "server"]
