"""Design search: methods, layers, readings, knobs, gates and doses, gain against damage."""
