"""What is trained after the model: prior, resampler, refiner."""

