"""Learning facial motion from unlabelled video: networks, losses, data, training, evaluation. Needs torch."""
