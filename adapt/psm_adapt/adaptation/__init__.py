"""Live adaptation: a snapshot of one face becomes that person's own model, in a process of its own."""
