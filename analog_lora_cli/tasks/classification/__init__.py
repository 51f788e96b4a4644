"""Classification and regression of texts in columns of any name."""
