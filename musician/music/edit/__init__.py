"""Change the text of a tune."""
