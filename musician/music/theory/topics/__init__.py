"""What can be asked: a module a field, each with its `TOPICS`, functions from a random source and a difficulty."""
