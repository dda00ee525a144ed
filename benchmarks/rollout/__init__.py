"""Rollouts: false alarms, how soon harm is found, bad candidates stopped, images drawn again, the slowest request."""
