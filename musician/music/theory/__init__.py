"""Theory questions made by program, each with an answer that follows from the rules alone."""
