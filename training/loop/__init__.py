"""The training loop and what every trainer uses: session, budget, rates, checkpoints, workers, devices."""
