"""Taking a result elsewhere: one module for each format, and what they have in common."""
