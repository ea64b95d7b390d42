"""The readers behind `ardm.data`, a module for each kind of source; what they share stands in base."""
