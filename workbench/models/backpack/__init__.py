"""Backpack language models: words as weighted sums of senses, arXiv 2305.16765."""
