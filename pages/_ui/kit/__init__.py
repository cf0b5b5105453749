"""What every page uses: state, words, frame, jobs, sessions, lanes, methods, forms, figures, clickable pictures, rows, prompts."""
