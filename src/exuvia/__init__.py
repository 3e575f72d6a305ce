"""Key management for WireGuard networks whose operators want to know as little as possible."""
