"""The web app: a model asked, its tunes checked, seen and heard in a browser."""
