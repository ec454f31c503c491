"""ABC notation itself: reading, describing, grouping into tune families. No torch in here."""
