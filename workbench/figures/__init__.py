"""Result records as plotly figures. Nothing is computed here."""
