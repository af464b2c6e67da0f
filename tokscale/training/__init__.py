"""Training of one part of a trial: LightningModules, the loop around them, and checkpoints that survive anything."""
