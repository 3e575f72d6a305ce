"""The client of a person's device: its state, its tunnel, and the kill switch around it."""
