"""psm_export: from weights to encoder bundles that the live path runs."""
