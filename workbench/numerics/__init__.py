"""Linear algebra and small trainings on plain tensors; knows no model."""
