"""What is stored: one typed specification per table, and what is rendered from it."""
