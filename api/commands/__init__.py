"""What can be typed after `persistasaurus`, a module per family of commands."""
