"""End-to-end functions that read like a paper's algorithm box."""
