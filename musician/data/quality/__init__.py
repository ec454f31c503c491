"""Checks of rows before they are tokenised: copies, benchmark questions, broken characters."""
