"""What every page uses: state, words, frame, jobs, sessions, forms, figures, clickable pictures, rows, prompts."""
