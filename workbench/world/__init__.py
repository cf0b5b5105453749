"""The embedded world: a grammar, the demonstration sets it yields, and the training of the two shipped models."""
