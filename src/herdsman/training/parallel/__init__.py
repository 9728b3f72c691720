"""One model over many processes: a file for each axis, and `model` that puts them together."""
