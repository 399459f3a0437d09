"""Systems to be beaten: the challenge's two baselines, and, as the bar for what learns, some without a network."""
