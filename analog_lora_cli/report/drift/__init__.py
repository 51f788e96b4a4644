"""Tables of drift results."""
