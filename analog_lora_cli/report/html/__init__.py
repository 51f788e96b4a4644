"""The page of `analora report`: one file, nothing from elsewhere."""
