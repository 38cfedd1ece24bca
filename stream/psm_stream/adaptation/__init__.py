"""Live adaptation, as far as the live path knows it: when to train, the process that trains, what it says."""
