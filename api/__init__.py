"""Interfaces for people and programs. Some need more than the engine does: `persistasaurus[cli]`."""
