"""SQuAD: answers as spans of a context."""
