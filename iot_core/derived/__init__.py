"""Values that are computed from what was measured: one pure function a formula, with its source and worked examples."""
