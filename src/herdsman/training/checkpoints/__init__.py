"""Checkpoints of a run: written beside training, sealed by digests, loadable on any layout."""
