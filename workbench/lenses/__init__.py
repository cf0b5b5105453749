"""Ways to look inside a model, edited or not; each gives a frozen record. `registry` knows them by name."""
