"""How far an export is from its weights: figures, the gate, the check that bundles carry."""
