"""How several nodes train one model together, how each commits to what it did, and how single steps are replayed."""
