"""LightningModules, callbacks and strategies."""
