"""The lenses of the page Inspect, a module a tab."""
