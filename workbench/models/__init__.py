"""Models: one interface, two final classes, and a catalog of where they come from."""
