"""A trained model for other programs: nothing here learns, and nothing here is needed to train."""
