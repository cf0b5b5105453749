"""The protocol of canonical examples: methods of different kinds at equal degradation, arXiv 2402.06155 §4."""
