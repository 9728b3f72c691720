"""What a page says for or against itself: language, filters, private data."""
