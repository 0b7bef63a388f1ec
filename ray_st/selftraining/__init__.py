"""Rounds of teacher, student and the choice between them."""
