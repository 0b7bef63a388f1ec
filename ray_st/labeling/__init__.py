"""Pseudo-labelling of unlabelled images by a teacher."""
