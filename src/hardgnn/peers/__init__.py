"""Other people's models on our splits: trained by well-kept libraries, tuned alike, ranked by our own evaluation."""
