"""State → inputs of a network, config → model; and wrappers for networks of your own."""
