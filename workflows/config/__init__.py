"""Options of the steps: fields, models, and loading them."""
