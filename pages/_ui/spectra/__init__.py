"""The views of the page Spectra."""
