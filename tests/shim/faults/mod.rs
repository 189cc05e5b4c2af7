//! What went wrong in other shims, and must not here. Numbers are those of public issues.
