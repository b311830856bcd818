"""What functions check of what they are given, in one place, with one wording."""
