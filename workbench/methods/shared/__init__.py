"""What several methods use: adapters, contrast rows, gates, neutral text, edit sizes, findings, validation, direction tokens."""
