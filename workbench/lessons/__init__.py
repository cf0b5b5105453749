"""Lessons: what a learner is asked, and what of their own work answers it. `lesson.Lesson`, `course.course`, `facts.met`."""
