"""Lightning loggers and what is logged to them."""
