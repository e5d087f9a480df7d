"""Effects along a curve of the tables' learning rate, for chapters 5, 6, 7 and 9."""
