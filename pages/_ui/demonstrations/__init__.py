"""Sets, templates and the geometry picture of the page Demonstrations."""
