Sorry.
