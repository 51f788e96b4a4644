"""Questions with several choices, in columns of any name."""
