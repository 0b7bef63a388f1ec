"""How work is placed on a Ray cluster."""
