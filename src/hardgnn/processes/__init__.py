"""Several processes at one training: who they are (`launch`), what they exchange (`group`), how they end (`ends`)."""
