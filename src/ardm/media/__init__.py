"""Pictures, plots and samples written for people."""
