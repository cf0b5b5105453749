"""Method cards, the form, and the fit of the page Edit."""
