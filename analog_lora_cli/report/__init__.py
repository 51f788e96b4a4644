"""What a person sees of a result: tables, plots, progress."""
