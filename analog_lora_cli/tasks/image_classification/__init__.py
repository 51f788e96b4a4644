"""Classification of images in folders, or named in tables."""
