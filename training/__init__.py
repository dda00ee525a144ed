"""Ray Train jobs that make versions: pretrain, reward, align, and the objectives and evaluation they share."""
