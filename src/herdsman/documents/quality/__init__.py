"""Models that judge documents and sort them."""
