"""A trained model at work: classes, neighbours, odd images. A model and arrays in, arrays out."""
