"""States in, networks asked, features out: the models that configurations name, and wrappers for networks of one's own."""
