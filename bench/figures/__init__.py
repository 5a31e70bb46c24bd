"""One module per figure: measure(stage, options) prints its lines."""
