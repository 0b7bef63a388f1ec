"""Training of a student on labels and pseudo-labels."""
