"""Lessons: the page Learn, and the panel that travels with the learner."""
