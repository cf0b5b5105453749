"""The views of the page Senses."""
