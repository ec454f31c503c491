"""The page: a model asked, checked, seen and heard in a browser."""
