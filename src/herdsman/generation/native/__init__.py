"""A decoding step in C, built when it is first used, for processors; where it cannot be built, torch does the same."""
