"""Edits: what one is, the engine that applies it, the store that keeps it, the ways to take it home."""
